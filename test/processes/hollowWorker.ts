// A worker that says all that a worker says and computes nothing, so that a test has its messages in hand.

import type { ExitCode } from '../../src/spec/errors.ts';
import { sizeOf, towerParameters } from '../../src/spec/layout.ts';
import type { TowerIndex } from '../../src/spec/layout.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';
import { floatsPayload } from '../../src/protocol/payloads.ts';
import { WorkerSocket } from '../../src/protocol/workerSocket.ts';

export interface HollowWorkerOptions {
  readonly address: string;
  readonly tower: TowerIndex;
  readonly classes: number;
  /** Awaited when the decision on a step has come; the worker then says that the step is done and reports on the next one. */
  readonly onDecision: (step: number) => Promise<void>;
}

/** Takes part in a run of `tiny` until it is dismissed; gives the exit code that it is dismissed with. */
export async function hollowWorker({ address, tower, classes, onDecision }: HollowWorkerOptions): Promise<ExitCode> {
  const blocks = towerParameters(planNetwork(networks.tiny, classes), tower);
  const socket = await WorkerSocket.connect({ address, joinTimeoutMs: 5000 });
  const report = (step: number): void => {
    socket.send({ type: 'gradients', step, tower, loss: 1, squaredNorm: 1, finite: true, top1: 0, ms: 1 });
  };
  const sendBlock = (step: number, index: number): void => {
    const { name, shape } = blocks[index % blocks.length]!;
    const of = index < blocks.length ? 'weights' : 'momentum';
    const header = { type: 'weights', step, tower, of, name, index, total: 2 * blocks.length } as const;
    socket.send(header, floatsPayload(new Float32Array(sizeOf(shape))));
  };
  try {
    socket.send({
      type: 'hello',
      step: 0,
      packageVersion: '0.1.0',
      host: 'here',
      pid: process.pid,
      device: 'none',
      tower,
      replica: 'auto',
    });
    for await (const event of socket.events) {
      if (event.kind !== 'message') throw new Error(`the coordinator is gone: ${event.kind}`);
      const { header } = event.message;
      if (header.type === 'assign') {
        if (tower === 0) socket.send({ type: 'link', step: 0, tower, neighbour: 'tower', address: 'tcp://127.0.0.1:1' });
        socket.send({ type: 'ready', step: 0, tower });
      } else if (header.type === 'begin') {
        socket.send({ type: 'credit', step: 0, count: 2 });
        report(1);
      } else if (header.type === 'decision') {
        await onDecision(header.step);
        const ms = { dataWait: 0, compute: 1, exchangeWait: 0, sync: 0, update: 0 };
        socket.send({ type: 'stepDone', step: header.step, tower, ms, bytesSent: 0, bytesSummed: 0, liveTensors: 0 });
        report(header.step + 1);
      } else if (header.type === 'sendBlock') {
        sendBlock(header.step, header.index);
      } else if (header.type === 'stop') {
        return header.exitCode;
      }
    }
    throw new Error('the link was closed');
  } finally {
    socket.close();
  }
}
