// Files of keys: who may read them, what is in them, and that what is wrong is said without showing a key.

import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { allowedLine, readAllowedKeys, readKeys, readPublicKey } from '../../src/protocol/keyFiles.ts';
import { newKeys } from '../../src/protocol/newKeys.ts';
import { UsageError } from '../../src/spec/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'keys-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

let files = 0;
function file(text: string, mode = 0o600): string {
  const path = join(folder, `file-${String(files++)}`);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

/** Refused with the path and this, and without what the file holds. */
function expectRefused(read: () => unknown, path: string, says: RegExp, secret?: string): void {
  let error: unknown;
  try {
    read();
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(UsageError);
  const { message } = error as UsageError;
  expect(message).toContain(path);
  expect(message).toMatch(says);
  if (secret !== undefined) expect(message).not.toContain(secret.slice(0, 8));
}

const keys = newKeys();

describe('a secret key', () => {
  test.each([0o600, 0o400])('is read with its public half from a file of mode %o', (mode) => {
    expect(readKeys(file(`${keys.secretKey}\n`, mode))).toEqual(keys);
  });

  test.each([0o644, 0o640, 0o660, 0o604, 0o700, 0o666])('is refused from a file of mode %o', (mode) => {
    const path = file(keys.secretKey, mode);
    expectRefused(() => readKeys(path), path, new RegExp(`mode 0${mode.toString(8)}.*chmod 600`), keys.secretKey);
  });

  test.each([
    ['nothing', ''],
    ['a key cut short', keys.secretKey.slice(1)],
    ['two keys', `${keys.secretKey}\n${keys.secretKey}\n`],
    ['a letter that Z85 does not have', `"${keys.secretKey.slice(1)}`],
    ['a key of another kind', '-----BEGIN OPENSSH PRIVATE KEY-----\n'],
  ])('is refused from a file with %s', (_, text) => {
    const path = file(text);
    expectRefused(() => readKeys(path), path, /holds no secret key/, keys.secretKey);
  });

  test('is missed by name, in a folder and in a file that is too large too', () => {
    expectRefused(() => readKeys(join(folder, 'nowhere')), join(folder, 'nowhere'), /ENOENT.*keygen/);
    expectRefused(() => readKeys(folder), folder, /not a file of keys/);
    const large = file('x'.repeat(1_000_000));
    expectRefused(() => readKeys(large), large, /not a file of keys/);
  });
});

test('a public key is given as it is or as a file', () => {
  expect(readPublicKey(keys.publicKey)).toBe(keys.publicKey);
  expect(readPublicKey(file(`${keys.publicKey}\n`, 0o644))).toBe(keys.publicKey);
  const path = file('no key', 0o644);
  expectRefused(() => readPublicKey(path), path, /holds no public key/);
  expectRefused(() => readPublicKey('nowhere.pub'), 'nowhere.pub', /ENOENT/);
});

describe('the list of allowed keys', () => {
  const [a, b] = [newKeys().publicKey, newKeys().publicKey];

  test('has a key, a name and perhaps a tower in each line, and remarks', () => {
    const allowed = [
      { publicKey: a, name: 'node-a', tower: 0 as const },
      { publicKey: b, name: 'b', tower: undefined },
    ];
    expect(readAllowedKeys(file(`# a remark\n\n#\n${allowed.map(allowedLine).join('')}`))).toEqual(allowed);
    expect(readAllowedKeys(file(`  ${a}\tnode-a   0  \r\n${b} b`))).toEqual(allowed);
  });

  test.each([
    ['node-a\n', 1, /no public key/],
    [`# first\n${a} node-a\n${a.slice(1)} b\n`, 3, /no public key/],
    [`${a}\n`, 1, /no name/],
    [`${a} b/c\n`, 1, /no name/],
    [`${a} b 2\n`, 1, /0 or 1/],
    [`${a} b 1 more\n`, 1, /0 or 1/],
    [`${a} b\n${a} c\n`, 2, /earlier line/],
  ])('is refused with the number of the line that is wrong: %j', (text, line, says) => {
    const path = file(text);
    expectRefused(() => readAllowedKeys(path), path, new RegExp(`line ${String(line)}: .*${says.source}`));
  });

  test('that is empty would let nobody in', () => {
    const path = file('# nobody\n');
    expectRefused(() => readAllowedKeys(path), path, /lists no worker's key/);
  });
});
