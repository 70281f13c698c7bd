// Starts the real worker process with the environment it needs, and stands in for it: it takes the signals, and passes its exit code on.
// Invariant: no signal handler ever runs in the process that computes. oneDNN's convolution gradients keep values where a handler's frame
// goes, so that one signal at the wrong moment changes numbers or crashes (docs/adr/0007-signals.md): a stop arrives as a message instead.
// The two die together: the channel between them closes with either, also when one is killed.

import { fork } from 'node:child_process';
import { z } from 'zod';
import { exitCodes } from '../spec/errors.ts';

/**
 * V8 collects garbage on the main thread alone: its four helper threads would take a quarter of a core from the towers, since what a step
 * throws away, tensors and frames outside the heap, makes them mark over and over (docs/performance.md). And it marks in one go: in
 * pieces between passes that hold the thread it would be done hundreds of MB later, at another place of each step, and the allocator keeps
 * for good what the worst step needed (docs/adr/0005-allocator.md).
 */
const nodeFlags = [
  ...['--single-threaded-gc', '--no-incremental-marking'],
  // Memory that V8 would otherwise find out about later is freed at once (src/protocol/spareMemory.ts); Node 22 can do it without a flag.
  ...('transfer' in ArrayBuffer.prototype ? [] : ['--harmony-rab-gsab-transfer']),
];

const marker = 'CROSSTOWER_WORKER_PROCESS';

const stopMessage = z.strictObject({ stop: z.string() });

/** Whether this is the real worker process. */
export function isWorkerProcess(): boolean {
  return process.env[marker] === '1' && process.connected;
}

/** Runs this command again as the real worker process, and gives its exit code; the first stop signal is passed on as a message. */
export function launchWorkerProcess(environment: Readonly<Record<string, string>>, stop: AbortSignal): Promise<number> {
  const [, script, ...args] = process.argv;
  if (script === undefined) throw new Error('the worker was not started as a script');
  // Detached: in a process group of its own, which Ctrl-C at the terminal does not reach. A coordinator with --local has put this
  // process into such a group already, and ends the group as a whole.
  const detached = !process.connected;
  const child = fork(script, args, {
    env: { ...process.env, ...environment, [marker]: '1' },
    execArgv: [...process.execArgv, ...nodeFlags],
    detached,
  });
  // Stuck or stopped, it would not notice that the channel is closed.
  process.once('exit', () => {
    child.kill('SIGKILL');
  });
  stop.addEventListener('abort', () => {
    child.send({ stop: String(stop.reason) });
  });
  exitWithParent();
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      if (signal !== null) {
        const likely = signal === 'SIGKILL' ? ', likely because memory ran out' : '';
        process.stderr.write(`worker: its process was killed by ${signal}${likely}\n`);
      }
      resolve(code ?? exitCodes.peerLost);
    });
  });
}

/** In the real worker process: aborted, with the signal's name, once the process that stands in for it was told to stop. */
export function stopFromLauncher(): AbortSignal {
  const controller = new AbortController();
  process.on('message', (message: unknown) => {
    const parsed = stopMessage.safeParse(message);
    if (parsed.success) controller.abort(parsed.data.stop);
  });
  return controller.signal;
}

/** Leaves as soon as the process that started this one, if it holds a channel to it, is gone. */
export function exitWithParent(): void {
  process.once('disconnect', () => {
    process.exit(exitCodes.peerLost);
  });
}
