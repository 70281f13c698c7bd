// What the allocator does in a process that starts as a worker does.

import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { allocatorEnvironment, readSetup } from '../../src/worker/environment.ts';

/** Prints the MB by which a process has grown after it has freed one block of 256 MB, and taken 48 of 1 MiB. */
const program = `
  const { setTimeout: sleep } = require('node:timers/promises');
  const take = (bytes) => Buffer.allocUnsafeSlow(bytes).fill(1);
  (async () => {
    take(256e6);
    gc();
    await sleep(100); // A sweep may end later than gc() does.
    const before = process.memoryUsage.rss();
    const kept = Array.from({ length: 48 }, () => take(2 ** 20));
    console.log((process.memoryUsage.rss() - before) / 1e6, kept.length);
  })();`;

describe('the allocator of a worker', () => {
  const { jemalloc } = readSetup();
  it.each(
    [
      { name: 'jemalloc', path: jemalloc },
      { name: 'glibc', path: null },
    ].filter(({ name, path }) => path !== null || name === 'glibc'),
  )('takes small blocks out of a large one that is free ($name)', ({ path }) => {
    const env = { ...process.env, ...allocatorEnvironment(path) };
    const output = execFileSync(process.execPath, ['--expose-gc', '--single-threaded-gc', '-e', program], {
      env,
      encoding: 'utf8',
    });
    const [grownMb] = output.split(' ').map(Number);
    // The blocks are 50 MB; node itself grows by less than 5 meanwhile.
    expect(grownMb).toBeLessThan(15);
  });
});
