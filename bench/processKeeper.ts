// The processes and temporary folders of a benchmark. Invariant: none outlives it, however it ends: `closeAll` is synchronous, for the
// 'exit' event, and ends whole trees, because a coordinator has workers and pip has children of its own.

import { spawn } from 'node:child_process';
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { UsageError } from '../src/spec/errors.ts';
import { descendants, isRunning } from './processTree.ts';

/** A process that was started here, and its end. */
export interface Kept {
  readonly child: ChildProcess;
  /** Resolves with words for how it ended, such as `exit code 2`. */
  readonly ended: Promise<string>;
}

const pollMs = 20;
/** A killed process that holds gigabytes takes some time to give them back. */
const endDeadlineMs = 10_000;

export class ProcessKeeper {
  readonly #running = new Set<ChildProcess>();
  readonly #folders = new Set<string>();

  /** Starts a process. It gets a session of its own: Ctrl-C reaches the benchmark alone, which then ends all of them at once. */
  spawn(command: string, args: readonly string[], options: SpawnOptions): Kept {
    const child = spawn(command, args, { ...options, detached: true });
    this.#running.add(child);
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => {
        this.#running.delete(child);
        resolve(`could not be started: ${error.message}`);
      });
      // 'close', not 'exit': all that it has said has been read by then.
      child.once('close', (code, signal) => {
        this.#running.delete(child);
        resolve(signal === null ? `exit code ${code ?? NaN}` : `killed by ${signal}`);
      });
    });
    return { child, ended };
  }

  /** Kills a process and all below it, and waits until they have given back processor and memory. */
  async kill({ child, ended }: Kept): Promise<void> {
    const below = this.#killTree(child);
    await ended;
    const deadline = performance.now() + endDeadlineMs;
    while (below.some(isRunning) && performance.now() < deadline) await sleep(pollMs);
  }

  /** A fresh folder that is removed at the end. */
  temporaryFolder(): string {
    try {
      const folder = mkdtempSync(join(tmpdir(), 'crosstower-bench-'));
      this.#folders.add(folder);
      return folder;
    } catch (error) {
      throw new UsageError(`no temporary folder could be made: ${String(error)}`, { cause: error });
    }
  }

  /** Marks a folder for removal at the end, if it is still there. */
  removeAtEnd(folder: string): void {
    this.#folders.add(folder);
  }

  /** Ends everything, at once. */
  closeAll(): void {
    for (const child of this.#running) this.#killTree(child);
    for (const folder of this.#folders) rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
    this.#folders.clear();
  }

  #killTree(child: ChildProcess): number[] {
    if (child.pid === undefined) return [];
    const below = descendants(child.pid);
    for (const pid of [child.pid, ...below]) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended by itself meanwhile.
      }
    }
    return below;
  }
}
