// Programs of others that the tests of the launcher drive (sshd, Slurm): Debian's, as `npm test` unpacks them into the cache
// (scripts/setup/testPrograms.mjs), else those installed. And which flags our own commands know.

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { packageRoot } from '../../src/spec/packageRoot.ts';

const setupSchema = z.object({ testPrograms: z.string().nullish() });

/** The unpacked packages; undefined where they could not be fetched. */
function unpacked(): string | undefined {
  const file = new URL('node_modules/.crosstower/environment.json', packageRoot());
  return setupSchema.parse(JSON.parse(readFileSync(file, 'utf8'))).testPrograms ?? undefined;
}

const folders = [unpacked(), '/'].filter((folder) => folder !== undefined);

/** A file of the packages, by its path once installed; undefined where it is not there. */
export function findFile(...paths: readonly string[]): string | undefined {
  return folders.flatMap((folder) => paths.map((path) => join(folder, path))).find(existsSync);
}

const libraries = ['usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu/slurm-wlm'];

/** What unpacked programs need to find each other and their libraries. */
export function programEnvironment(): Record<string, string> {
  const folder = unpacked();
  if (folder === undefined) return {};
  return {
    LD_LIBRARY_PATH: libraries.map((path) => join(folder, path)).join(':'),
    PATH: `${join(folder, 'usr/bin')}:${process.env['PATH'] ?? ''}`,
  };
}

export const isRoot = process.getuid?.() === 0;

/** Whether a command works here; with root's rights some do not, where the rights are few. */
export function works(program: string, ...args: readonly string[]): boolean {
  try {
    execFileSync(program, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** A title that says why its tests are skipped. */
export function titled(title: string, reason: string | undefined): string {
  return reason === undefined ? title : `${title} (skipped: ${reason})`;
}
