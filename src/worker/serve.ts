// The life of a worker: say hello, be assigned a tower, serve it; when somebody else is lost, drop the step and be assigned anew.
// A worker does not leave because its peer did, nor because its coordinator did, before --join-timeout (docs/adr/0016-recovery.md).
// Invariant: whatever ends it, the coordinator is told why, and the process leaves with the exit code that says so.

import { hostname } from 'node:os';
import type { ExitCode } from '../spec/errors.ts';
import { CrosstowerError, OutOfMemoryError, exitCodeOf, exitCodes } from '../spec/errors.ts';
import type { TowerIndex } from '../spec/layout.ts';
import type { ConnectorCurve } from '../protocol/curveKeys.ts';
import { WorkerSocket } from '../protocol/workerSocket.ts';
import { serveGeneration } from './generation.ts';
import type { Assignment, GenerationOptions } from './generation.ts';
import { Dismissed, Inbox } from './inbox.ts';

export interface ServeOptions extends GenerationOptions {
  /** The coordinator's. */
  readonly address: string;
  readonly tower: TowerIndex | 'both' | 'auto';
  readonly replica: number | 'auto';
  /** What this process computes on, in words. */
  readonly device: string;
  readonly packageVersion: string;
  /** This worker's keys and the coordinator's public one; nothing is encrypted without. */
  readonly curve?: ConnectorCurve | undefined;
  /** Aborted by a signal to this process, with the signal's name as its reason. */
  readonly stop: AbortSignal;
}

/** Serves one run and gives the exit code it ended with. */
export async function serve(options: ServeOptions): Promise<ExitCode> {
  const { address, joinTimeoutMs, curve, stop, packageVersion, device, log } = options;
  let socket: WorkerSocket;
  try {
    socket = await WorkerSocket.connect({ address, joinTimeoutMs, curve, signal: stop });
  } catch (error) {
    if (stop.aborted) return exitCodes.stoppedEarly;
    throw error;
  }
  // Back after a loss, it asks for the place that it held.
  let { tower, replica } = options;
  const greet = (): void => {
    socket.send({ type: 'hello', step: 0, packageVersion, host: hostname(), pid: process.pid, device, tower, replica });
  };
  const passOnStop = (): void => {
    if (!stop.aborted) return;
    if (inbox.isConnected) socket.send({ type: 'stopRequested', step: 0, signal: String(stop.reason) });
    else inbox.finish(new Dismissed(exitCodes.stoppedEarly, 'stopped while there was no coordinator'));
  };
  const leave = (reason?: string): void => {
    if (reason !== undefined) log(`${reason}; asking for a place again`);
    passOnStop();
  };
  const inbox = new Inbox(socket, { address, onReconnect: greet, onDisconnect: leave });
  stop.addEventListener('abort', passOnStop, { once: true });
  greet();
  try {
    let loss: CrosstowerError | undefined;
    for (;;) {
      const taken = await nextAssignment(inbox, joinTimeoutMs, loss);
      // Since it was taken, the next one may have come, and only that one counts.
      const assignment = inbox.takeNow(['assign'])?.header ?? taken;
      const { signal } = inbox;
      ({ tower, replica } = assignment);
      log(inWords(assignment));
      passOnStop();
      try {
        await serveGeneration(assignment, { socket, inbox }, options);
      } catch (error) {
        if (!(error instanceof CrosstowerError) || error.exitCode !== exitCodes.peerLost) throw error;
        // The link to the other tower is closed as well when the coordinator sends us home.
        if (inbox.end !== undefined) throw inbox.end;
        loss = error;
        log(`${error.message}; the step is dropped`);
        // That a generation has ended which the coordinator ended is no news; said in the next one, it would end that as well.
        if (!signal.aborted) socket.send({ type: 'stranded', step: 0, message: error.message.slice(0, 4000) });
      }
    }
  } catch (error) {
    if (error instanceof Dismissed) {
      socket.send({ type: 'bye', step: 0 });
      log(error.message);
      return error.exitCode;
    }
    const failure = explained(error);
    socket.send({ type: 'failed', step: 0, exitCode: exitCodeOf(failure), message: failure.message.slice(0, 4000) });
    throw failure;
  } finally {
    stop.removeEventListener('abort', passOnStop);
    socket.close();
  }
}

/** Waits for a place in the next generation; after a loss that nobody mends in time, throws the loss. */
async function nextAssignment(inbox: Inbox, joinTimeoutMs: number, loss: CrosstowerError | undefined): Promise<Assignment> {
  try {
    return (await inbox.takeAssignment({ ms: joinTimeoutMs, what: 'a tower to be assigned' })).header;
  } catch (error) {
    throw inbox.end ?? loss ?? error;
  }
}

function inWords({ tower, replica, run, generation, step, config }: Assignment): string {
  const of = config.replicas === 1 ? '' : ` of replica ${String(replica)}`;
  return `assigned tower ${String(tower)}${of} of run ${run}, network ${config.network}, generation ${String(generation)}, from step ${String(step)}`;
}

/** TensorFlow says that memory is short in words of its own. */
function explained(error: unknown): Error {
  if (error instanceof CrosstowerError) return error;
  const message = error instanceof Error ? error.message : String(error);
  if (/OOM|ResourceExhausted|RESOURCE_EXHAUSTED|failed to allocate/i.test(message)) {
    return new OutOfMemoryError(`the device has no memory left (${message}): try a smaller --batch or --micro-batch`, {
      cause: error,
    });
  }
  return error instanceof Error ? error : new Error(message);
}
