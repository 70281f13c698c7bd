// Where this checkout lies and which version it is, found from the code itself: it runs from src/ in tests and from dist/src/ otherwise.

import { existsSync, readFileSync } from 'node:fs';
import { z } from 'zod';

/** The checkout's folder, with a slash at the end. */
export function packageRoot(): URL {
  let folder = new URL('./', import.meta.url);
  while (!existsSync(new URL('package-lock.json', folder))) {
    const parent = new URL('../', folder);
    if (parent.href === folder.href) throw new Error(`no package-lock.json above ${import.meta.url}`);
    folder = parent;
  }
  return folder;
}

/** The version in package.json. */
export function packageVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('package.json', packageRoot()), 'utf8'));
  return z.object({ version: z.string() }).parse(manifest).version;
}
