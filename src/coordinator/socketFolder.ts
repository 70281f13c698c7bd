// The folder of a local run's sockets, among the system's temporary files: nobody else can enter it (mkdtemp makes it with mode 0700).
// A coordinator that is killed leaves it behind, and the next one of the same user removes it.
// Invariant: nothing is removed but a folder of ours, of this name and mode, that was locked by a process which is gone, and where nobody
// listens: a process in another container may share the folder and not our process numbers. Links are not followed.

import { lstatSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { someoneListens } from '../protocol/sockets.ts';
import { RunLock } from './runLock.ts';

const prefix = 'crosstower-';
/** What mkdtemp makes of the prefix. */
const namePattern = /^crosstower-[A-Za-z0-9]{6}$/;
const ownerOnly = 0o700;

/** Makes the folder, and removes it when `use` has ended. */
export async function withSocketFolder<T>(
  use: (folder: string) => Promise<T>,
  { say, among = tmpdir() }: { readonly say: (line: string) => void; readonly among?: string },
): Promise<T> {
  await removeLeftovers(among);
  const folder = await mkdtemp(join(among, prefix));
  try {
    // Goes with the folder.
    RunLock.take(folder, say);
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function removeLeftovers(among: string): Promise<void> {
  for (const name of await readdir(among)) {
    const folder = join(among, name);
    if (namePattern.test(name) && (await isLeftover(folder))) await rm(folder, { recursive: true, force: true });
  }
}

async function isLeftover(folder: string): Promise<boolean> {
  const found = lstatSync(folder, { throwIfNoEntry: false });
  if (found?.isDirectory() !== true || found.uid !== process.getuid?.() || (found.mode & 0o777) !== ownerOnly) return false;
  if (!RunLock.isLeftBehind(folder)) return false;
  // Another coordinator may be removing it too.
  for (const name of await readdir(folder).catch(() => [])) if (await someoneListens(join(folder, name))) return false;
  return true;
}
