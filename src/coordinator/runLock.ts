// One coordinator a folder (a run's, or that of its sockets): run.lock names the process that works in it.
// Invariant: the lock of a process that is gone from this machine is taken over; one of another machine is believed.

import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { RefusedError } from '../spec/errors.ts';

const holderSchema = z.object({ pid: z.int(), host: z.string(), startTicks: z.string() });

export class RunLock {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /** Takes the lock of a folder; throws RefusedError where another process holds it. */
  static take(folder: string, say: (line: string) => void): RunLock {
    const path = join(folder, 'run.lock');
    const mine = JSON.stringify({ pid: process.pid, host: hostname(), startTicks: startTicks(process.pid) ?? '' });
    for (;;) {
      try {
        writeFileSync(path, mine, { flag: 'wx' });
        return new RunLock(path);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      const holder = holderOf(path);
      if (holder !== undefined && isAlive(holder)) {
        throw new RefusedError(`${folder} is in use by a coordinator on ${holder.host}, pid ${String(holder.pid)} (${path})`);
      }
      say(`${path} was left behind by a process that is gone: taken over`);
      rmSync(path, { force: true });
    }
  }

  /** Whether a folder holds the lock of a process that is gone from this machine. */
  static isLeftBehind(folder: string): boolean {
    const holder = holderOf(join(folder, 'run.lock'));
    return holder !== undefined && !isAlive(holder);
  }

  release(): void {
    rmSync(this.#path, { force: true });
  }
}

function holderOf(path: string): z.infer<typeof holderSchema> | undefined {
  try {
    return holderSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return undefined;
  }
}

function isAlive({ pid, host, startTicks: started }: z.infer<typeof holderSchema>): boolean {
  return host !== hostname() || startTicks(pid) === started;
}

/** When a process of this machine started, which tells it from a later one of the same number; nothing where there is none. */
function startTicks(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${String(pid)}/stat`, 'latin1');
    // Field 22, counted from behind the name in brackets, which may hold spaces.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}
