// Where workers come to: the socket that they join at, and those that are started here. Training and inference have it in common.
// Invariant: whatever ends the work, the socket is closed and no worker of ours stays behind.

import { CrosstowerError, exitCodes } from '../spec/errors.ts';
import { towers } from '../spec/layout.ts';
import { CoordinatorSocket } from '../protocol/coordinatorSocket.ts';
import type { ListenerCurve } from '../protocol/curveKeys.ts';
import { isOnThisMachine } from '../protocol/sockets.ts';
import type { LocalChoice } from './localChoice.ts';
import { LocalWorkers } from './localWorkers.ts';
import type { RunFacts } from './placement.ts';
import { seatNames } from './seats.ts';
import { withSocketFolder } from './socketFolder.ts';
import { WorkerGroup } from './workerGroup.ts';

export interface WorkplaceOptions {
  /** `tcp://HOST:PORT` or `ipc://PATH`; nothing for sockets in a folder of their own, which no other user can enter. */
  readonly bind: string | undefined;
  /** The keys to listen with; without, nothing is encrypted. */
  readonly curve: ListenerCurve | undefined;
  readonly run: string;
  readonly generation: number;
  /** Workers to start on this machine; none when they are started elsewhere. */
  readonly localWorkers: readonly LocalChoice[];
  /** Where a local worker's output goes. */
  readonly logPath: (choice: LocalChoice) => string;
  /** Told of the address before any worker starts. */
  readonly onListening: (address: string) => void;
  readonly say: (line: string) => void;
}

export interface Workplace {
  readonly socket: CoordinatorSocket;
  readonly local: LocalWorkers;
  /** Where a tower listens for its neighbours unless its command says otherwise. */
  readonly peerAddress: string;
}

/** Listens and starts the local workers for as long as `use` takes: what they say before a group listens waits in the socket. */
export async function withWorkplace<T>(options: WorkplaceOptions, use: (workplace: Workplace) => Promise<T>): Promise<T> {
  if (options.bind !== undefined) return useAt(options.bind, peerAddressFor(options.bind), options, use);
  return withSocketFolder((folder) => useAt(`ipc://${folder}/coordinator`, `ipc://${folder}/link`, options, use), options);
}

async function useAt<T>(
  address: string,
  peerAddress: string,
  { curve, run, generation, localWorkers, logPath, onListening, say }: WorkplaceOptions,
  use: (workplace: Workplace) => Promise<T>,
): Promise<T> {
  const socket = await CoordinatorSocket.bind({ address, curve, run, generation, log: say });
  onListening(socket.address);
  const local = new LocalWorkers(
    localWorkers.map((choice) => {
      const { tower, replica, args } = choice;
      const seats = (tower === 'both' ? towers : ([tower === '0' ? 0 : 1] as const)).map((each) => ({ replica, tower: each }));
      return {
        name: seatNames(seats, 1 + Math.max(...localWorkers.map((other) => other.replica))),
        seats,
        args: ['--coordinator', socket.address, '--tower', tower, '--replica', String(replica), ...args],
        logPath: logPath(choice),
      };
    }),
  );
  try {
    return await use({ socket, local, peerAddress });
  } finally {
    local.expectEnd();
    socket.close();
    await local.stop();
  }
}

/** The group that listens to the workers from now on; `gatherUnlessStopped` waits for them. */
export function openGroup(
  { socket, local, peerAddress }: Workplace,
  facts: Omit<RunFacts, 'peerAddress'>,
  say: (line: string) => void,
): WorkerGroup {
  const group = new WorkerGroup(socket, { ...facts, peerAddress }, say);
  local.onDeath(({ worker, error }) => {
    group.failProcess(worker.seats, error);
  });
  return group;
}

/** Waits for the workers; a stop meanwhile ends the wait with `whenStopped` as the error's message (exit 75). */
export async function gatherUnlessStopped(group: WorkerGroup, stop: AbortSignal, whenStopped: string): Promise<void> {
  const abandon = (): void => {
    group.fail(new CrosstowerError(exitCodes.stoppedEarly, whenStopped));
  };
  if (stop.aborted) abandon();
  stop.addEventListener('abort', abandon, { once: true });
  await group.gather();
  stop.removeEventListener('abort', abandon);
}

/** On this machine, where everything else is on it too. */
function peerAddressFor(address: string): string {
  return isOnThisMachine(address) ? 'tcp://127.0.0.1:0' : 'tcp://0.0.0.0:0';
}
