// Where results are made before they are whole. On the cache's own disk, so that the last act is a rename.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** A new empty folder, under a name that nothing left over from a killed set-up can still be writing to. */
export function stagingFolder(cache) {
  const all = join(cache, 'staging');
  mkdirSync(all, { recursive: true });
  return mkdtempSync(join(all, 'step-'));
}

/** Removes everything that is not whole, of this set-up and of those that were killed. */
export function clearStaging(cache) {
  rmSync(join(cache, 'staging'), { recursive: true, force: true });
}
