// Starts the real worker process with the environment it needs, and stands in for it: signals go down, the exit code comes up.
// Invariant: the two die together. The channel between them closes with either, also when one is killed.

import { fork } from 'node:child_process';
import { exitCodes } from '../spec/errors.ts';

const marker = 'CROSSTOWER_WORKER_PROCESS';

/** Whether this is the real worker process. */
export function isWorkerProcess(): boolean {
  return process.env[marker] === '1' && process.connected;
}

/** Runs this command again as the real worker process, and gives its exit code. */
export function launchWorkerProcess(environment: Readonly<Record<string, string>>): Promise<number> {
  const [, script, ...args] = process.argv;
  if (script === undefined) throw new Error('the worker was not started as a script');
  const child = fork(script, args, { env: { ...process.env, ...environment, [marker]: '1' } });
  // Ctrl-C reaches the whole process group by itself; a signal to this process alone is passed on.
  for (const signal of ['SIGTERM', 'SIGUSR1', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));
  process.on('SIGINT', () => undefined);
  exitWithParent();
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      if (signal !== null)
        process.stderr.write(
          `worker: its process was killed by ${signal}${signal === 'SIGKILL' ? ', likely out of memory' : ''}\n`,
        );
      resolve(code ?? exitCodes.peerLost);
    });
  });
}

/** Leaves as soon as the process that started this one, if it holds a channel to it, is gone. */
export function exitWithParent(): void {
  process.once('disconnect', () => {
    process.exit(exitCodes.peerLost);
  });
}
