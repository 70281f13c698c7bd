// The workers that `coordinator start --local` starts on its own machine: real worker commands, their output in the run's logs.
// Invariant: none outlives the run: they are told to stop, waited for, and killed at the end of their time.

import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { CrosstowerError, PeerLostError, exitCodes } from '../spec/errors.ts';
import type { Seat } from './seats.ts';

const workerCommand = fileURLToPath(new URL('../worker/cli.js', import.meta.url));
/** Longer than a worker that was told to stop takes to free its memory; one that waits for a coordinator has nobody to tell it. */
const graceMs = 3000;

export interface LocalWorker {
  /** For messages: `tower 0`. */
  readonly name: string;
  readonly seats: readonly Seat[];
  readonly args: readonly string[];
  readonly logPath: string;
}

/** A worker's process that ended before it should. */
interface Death {
  readonly worker: LocalWorker;
  readonly error: CrosstowerError;
}

export class LocalWorkers {
  readonly #children: { readonly worker: LocalWorker; readonly child: ChildProcess; readonly ended: Promise<void> }[] = [];
  #isStopping = false;
  #death: Death | undefined;
  #tell: ((death: Death) => void) | undefined;

  /** Starts the workers. */
  constructor(workers: readonly LocalWorker[]) {
    for (const worker of workers) {
      const log = openSync(worker.logPath, 'a');
      // A process group of its own: Ctrl-C at the terminal reaches the coordinator, which stops its workers in good order.
      const child = spawn(process.execPath, [workerCommand, ...worker.args], {
        stdio: ['ignore', log, log, 'ipc'],
        detached: true,
      });
      closeSync(log);
      const ended = new Promise<void>((resolve) => {
        child.once('exit', (code, signal) => {
          resolve();
          this.#die({ worker, error: deathOf(worker, code, signal) });
        });
        child.once('error', (error) => {
          resolve();
          const message = `${worker.name}: its process could not be started: ${error.message}`;
          this.#die({ worker, error: new CrosstowerError(exitCodes.bug, message, { cause: error }) });
        });
      });
      this.#children.push({ worker, child, ended });
    }
  }

  /** `tell` hears of the first worker that ends before it should, also when that was before this call. */
  onDeath(tell: (death: Death) => void): void {
    this.#tell = tell;
    if (this.#death !== undefined) tell(this.#death);
  }

  /** The workers have been dismissed: from now on their end is no failure. */
  expectEnd(): void {
    this.#isStopping = true;
  }

  /** Waits for the workers to end, and kills those that do not. */
  async stop(): Promise<void> {
    this.expectEnd();
    const timer = setTimeout(() => {
      for (const { child } of this.#children) killGroup(child);
    }, graceMs);
    await Promise.all(this.#children.map(({ ended }) => ended));
    clearTimeout(timer);
  }

  #die(death: Death): void {
    if (this.#isStopping || this.#death !== undefined) return;
    this.#death = death;
    this.#tell?.(death);
  }
}

/** Kills the worker's command together with the process that computes, which may be stopped or stuck. */
function killGroup({ pid, exitCode, signalCode }: ChildProcess): void {
  if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, 'SIGKILL');
}

function deathOf({ name, logPath }: LocalWorker, code: number | null, signal: NodeJS.Signals | null): CrosstowerError {
  const known = Object.values(exitCodes).find((candidate) => candidate === code);
  const what = signal === null ? `ended with exit code ${String(code)}` : `was killed by ${signal}`;
  const message = `${name}: its process ${what}: ${lastLine(logPath)} (${logPath})`;
  return known === undefined || known === exitCodes.done ? new PeerLostError(message) : new CrosstowerError(known, message);
}

function lastLine(path: string): string {
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
  return lines.at(-1) ?? '';
}
