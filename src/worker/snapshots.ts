// The state after a step, copied to the host so that training can go on, and sent block by block when the coordinator asks.
// Invariant: a copy is what all towers had after that step, whatever has been trained since; it is dropped with its last block.

import { floatsPayload } from '../protocol/payloads.ts';
import type { WorkerSocket } from '../protocol/workerSocket.ts';
import type { Received } from './inbox.ts';
import type { TowerSeat } from './trainingStep.ts';

interface Copy {
  readonly tower: 0 | 1;
  readonly blocks: readonly { readonly of: 'weights' | 'momentum'; readonly name: string; readonly values: Float32Array }[];
}

export class Snapshots {
  readonly #socket: WorkerSocket;
  #last: { readonly step: number; readonly copies: readonly Copy[] } | undefined;

  constructor(socket: WorkerSocket) {
    this.#socket = socket;
  }

  /** Copies weights and velocities of every tower here. */
  take(step: number, seats: readonly Pick<TowerSeat, 'tower' | 'parameters'>[]): void {
    const copies = seats.map(({ tower, parameters }) => ({
      tower: tower.index,
      blocks: (['weights', 'momentum'] as const).flatMap((of) =>
        parameters.blocks.map(({ name }) => ({ of, name, values: parameters.save(name, of) })),
      ),
    }));
    this.#last = { step, copies };
  }

  /** Sends one block of every tower here; a block of an older snapshot is not there any more, and not wanted either. */
  send({ step, index }: Received<'sendBlock'>['header']): void {
    if (this.#last?.step !== step) return;
    for (const { tower, blocks } of this.#last.copies) {
      const block = blocks[index];
      if (block === undefined) continue;
      const { of, name, values } = block;
      this.#socket.send({ type: 'weights', step, tower, of, name, index, total: blocks.length }, floatsPayload(values));
      if (index === blocks.length - 1) this.#last = undefined;
    }
  }
}
