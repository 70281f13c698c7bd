// Keys in files: a secret key alone on a line in a file that only its owner may read, and the list of keys that a coordinator lets in.
// Invariant: what is wrong with a file is said with its path and never with its content.

import { readFileSync, statSync } from 'node:fs';
import { UsageError } from '../spec/errors.ts';
import { isKey, keysOf } from './curveKeys.ts';
import type { AllowedKey, CurveKeys } from './curveKeys.ts';

/** What `coordinator keygen` calls the files of its folder. */
export const keyFileNames = { secret: 'coordinator.key', public: 'coordinator.pub', allowed: 'allowed-workers' } as const;

const maxFileBytes = 256 * 1024;

/** The keys of a secret key's file; throws UsageError where it is missing, holds no key, or can be read by others. */
export function readKeys(path: string): CurveKeys {
  const text = readSmallFile(path);
  const mode = statSync(path).mode & 0o777;
  if (mode !== 0o600 && mode !== 0o400) {
    throw new UsageError(
      `${path} has mode 0${mode.toString(8)}, and a secret key is for its owner alone: chmod 600 it, and make a new one if others could read it`,
    );
  }
  const keys = keysOf(text.trim());
  if (keys === undefined)
    throw new UsageError(`${path} holds no secret key: it is one line of 40 characters, as keygen writes it`);
  return keys;
}

/** A public key, given as it is or as a file that holds it; throws UsageError. */
export function readPublicKey(keyOrPath: string): string {
  if (isKey(keyOrPath)) return keyOrPath;
  const key = readSmallFile(keyOrPath).trim();
  if (!isKey(key)) throw new UsageError(`${keyOrPath} holds no public key: it is one line of 40 characters, as keygen writes it`);
  return key;
}

/** A worker's line in the list of keys. */
export function allowedLine({ publicKey, name, tower }: AllowedKey): string {
  return `${publicKey} ${name}${tower === undefined ? '' : ` ${String(tower)}`}\n`;
}

/** The list of keys that are let in: `KEY NAME [TOWER]` a line, remarks after `# `; throws UsageError naming the line. */
export function readAllowedKeys(path: string): AllowedKey[] {
  const allowed: AllowedKey[] = [];
  for (const [index, line] of readSmallFile(path).split('\n').entries()) {
    // No key holds a blank, so that no key is taken for a remark.
    if (line.trim() === '' || line === '#' || line.startsWith('# ')) continue;
    const fail = (what: string): never => {
      throw new UsageError(`${path}, line ${String(index + 1)}: ${what}; a line is KEY NAME, or KEY NAME TOWER`);
    };
    const [publicKey = '', name = '', tower, ...rest] = line.trim().split(/\s+/);
    if (!isKey(publicKey)) fail('no public key of 40 characters');
    if (!/^[\w.-]{1,64}$/.test(name)) fail('no name of letters, digits, dots and dashes');
    if (rest.length > 0 || (tower !== undefined && tower !== '0' && tower !== '1')) fail('the tower is 0 or 1');
    if (allowed.some((other) => other.publicKey === publicKey)) fail('a key that an earlier line has');
    allowed.push({ publicKey, name, tower: tower === undefined ? undefined : tower === '0' ? 0 : 1 });
  }
  if (allowed.length === 0) throw new UsageError(`${path} lists no worker's key: nobody could join`);
  return allowed;
}

function readSmallFile(path: string): string {
  try {
    const facts = statSync(path);
    if (!facts.isFile() || facts.size > maxFileBytes) throw new UsageError(`${path} is not a file of keys`);
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    throw new UsageError(`${path} could not be read (${code}): \`coordinator keygen\` makes keys`, { cause: error });
  }
}
