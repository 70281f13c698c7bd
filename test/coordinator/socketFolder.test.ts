// The folders of sockets that killed coordinators leave behind are removed; whatever else looks like one stays.

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { RunLock } from '../../src/coordinator/runLock.ts';
import { withSocketFolder } from '../../src/coordinator/socketFolder.ts';

let among = '';
beforeEach(() => {
  among = mkdtempSync(join(tmpdir(), 'sockets-'));
});
afterEach(() => {
  rmSync(among, { recursive: true });
});

/** A folder as a coordinator has left it that was killed. */
function leave(name: string, host = hostname()): string {
  const folder = join(among, name);
  mkdirSync(folder, { mode: 0o700 });
  const { pid } = spawnSync('true');
  writeFileSync(join(folder, 'run.lock'), JSON.stringify({ pid, host, startTicks: '1' }));
  writeFileSync(join(folder, 'coordinator'), '');
  return folder;
}

async function useOne(): Promise<void> {
  await withSocketFolder(() => Promise.resolve(), { say: () => undefined, among });
}

test('the folder is open to its owner alone, locked while it is used, and gone afterwards', async () => {
  const inside = async (folder: string): Promise<void> => {
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    expect(RunLock.isLeftBehind(folder)).toBe(false);
    // Another coordinator starts meanwhile.
    await useOne();
    expect(existsSync(join(folder, 'run.lock'))).toBe(true);
    throw new Error('the work failed');
  };
  await expect(withSocketFolder(inside, { say: () => undefined, among })).rejects.toThrow('the work failed');
  expect(readdirSync(among)).toEqual([]);
});

test('what killed coordinators have left is removed', async () => {
  leave('crosstower-abc123');
  leave('crosstower-XYZ000');
  await useOne();
  expect(readdirSync(among)).toEqual([]);
});

test.each([
  ['of another name', () => leave('crosstower-logs-abc123')],
  [
    'that others may enter',
    () => {
      chmodSync(leave('crosstower-abc123'), 0o755);
    },
  ],
  ['of another machine', () => leave('crosstower-abc123', 'elsewhere')],
  [
    'without a lock',
    () => {
      rmSync(join(leave('crosstower-abc123'), 'run.lock'));
    },
  ],
  [
    'whose lock says nothing',
    () => {
      writeFileSync(join(leave('crosstower-abc123'), 'run.lock'), '');
    },
  ],
  [
    'that is a link to one',
    () => {
      symlinkSync(leave('elsewhere'), join(among, 'crosstower-abc123'));
    },
  ],
])('a folder %s stays', async (_, make) => {
  make();
  const before = readdirSync(among, { recursive: true });
  await useOne();
  expect(readdirSync(among, { recursive: true })).toEqual(before);
});

test.skipIf(process.getuid?.() !== 0)('a folder of another user stays', async () => {
  const { status } = spawnSync('chown', ['-R', '1', leave('crosstower-abc123')]);
  expect(status).toBe(0);
  await useOne();
  expect(readdirSync(among)).toEqual(['crosstower-abc123']);
});

test('a folder where somebody listens stays, whatever its lock says', async () => {
  const folder = leave('crosstower-abc123');
  rmSync(join(folder, 'coordinator'));
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(join(folder, 'coordinator'), resolve));
  await useOne();
  expect(readdirSync(among)).toEqual(['crosstower-abc123']);
  await new Promise((resolve) => server.close(resolve));
});
