// The checkpoints of a run when the disk refuses: training goes on, with an alarm, until too many in a row have failed.

import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseRunConfig } from '../../src/spec/config.ts';
import { StorageError } from '../../src/spec/errors.ts';
import { sizeOf, towerParameters, towers } from '../../src/spec/layout.ts';
import { networks, planNetwork } from '../../src/spec/network.ts';
import { initialScheduleState } from '../../src/spec/schedule.ts';
import { protocolVersion } from '../../src/protocol/messages.ts';
import { floatsPayload } from '../../src/protocol/payloads.ts';
import type { ManifestFacts } from '../../src/coordinator/checkpoint.ts';
import { Checkpoints, newestCheckpoint } from '../../src/coordinator/checkpoints.ts';
import type { BlockOfTowers } from '../../src/coordinator/snapshot.ts';

const plan = planNetwork(networks.tiny, 3);
const large = planNetwork(networks.compact, 1000);

/** A snapshot as both towers send it; counts the blocks that were taken. */
async function* snapshot(step: number, taken = { count: 0 }, of = plan): AsyncGenerator<BlockOfTowers> {
  const layouts = towers.map((tower) => towerParameters(of, tower));
  const total = 2 * layouts[0]!.length;
  for (let index = 0; index < total; index++) {
    const set = index < total / 2 ? 'weights' : 'momentum';
    taken.count++;
    await Promise.resolve();
    yield towers.map((tower) => {
      const { name, shape } = layouts[tower]![index % layouts[tower]!.length]!;
      const envelope = { version: protocolVersion, run: 'r', generation: 1, step } as const;
      return {
        header: { ...envelope, type: 'weights', tower, of: set, name, index, total },
        payload: floatsPayload(new Float32Array(sizeOf(shape)).fill(step)),
      };
    });
  }
}

function factsAt(step: number): ManifestFacts {
  return {
    ...{ packageVersion: '0', run: 'r', generation: 1, step, skippedBefore: 0, metricsBytes: 0 },
    config: parseRunConfig({ network: 'tiny' }, 'test'),
    classes: ['a', 'b', 'c'],
    data: { train: 10, test: 5, mean: [1], deviation: [2] },
    schedule: initialScheduleState,
  };
}

let folder = '';
let lines: string[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'checkpoints-'));
  lines = [];
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

function checkpointsIn(path: string, keep = 3): Checkpoints {
  return new Checkpoints({ folder: path, plan, keep, say: (line) => lines.push(line) });
}

describe('checkpoints', () => {
  test('are pruned after the newest ones and the best, and the links follow', async () => {
    const checkpoints = checkpointsIn(folder, 2);
    for (const step of [1, 2, 3, 4, 5]) {
      checkpoints.begin(factsAt(step), snapshot(step));
      if (step === 2) checkpoints.markBest(step);
      await checkpoints.settled();
    }
    await checkpoints.finish();
    expect(readdirSync(folder).sort()).toEqual(['best', 'last', 'step-00000002', 'step-00000004', 'step-00000005']);
    expect([readlinkSync(join(folder, 'best')), readlinkSync(join(folder, 'last'))]).toEqual(['step-00000002', 'step-00000005']);
    expect((await newestCheckpoint(folder, () => undefined))?.manifest.step).toBe(5);
  });

  test('that a run goes on from may be the best as well', async () => {
    const before = checkpointsIn(folder);
    before.begin(factsAt(7), snapshot(7));
    await before.finish();
    const after = new Checkpoints({ folder, plan, keep: 3, lastStep: 7, say: () => undefined });
    after.markBest(7);
    await after.finish();
    expect(readlinkSync(join(folder, 'best'))).toBe('step-00000007');
  });

  test('that cannot be written are said, what the towers send is taken, and the third in a row ends the run', async () => {
    // Where the folder should be there is a file.
    const path = join(folder, 'taken');
    writeFileSync(path, '');
    const checkpoints = checkpointsIn(path);
    const taken = { count: 0 };
    for (const step of [1, 2]) {
      checkpoints.begin(factsAt(step), snapshot(step, taken));
      await checkpoints.settled();
    }
    expect(lines).toHaveLength(2);
    expect(lines[0]).toMatch(/step-00000001 could not be written: .*; training goes on/);
    expect(taken.count).toBe(2 * 2 * towerParameters(plan, 0).length);
    checkpoints.begin(factsAt(3), snapshot(3));
    await expect(checkpoints.settled()).rejects.toThrow(StorageError);
  });

  test.each([
    ['the next one waits', (checkpoints: Checkpoints) => checkpoints.settled()],
    ['the run ends', (checkpoints: Checkpoints) => checkpoints.finish()],
    ['the workers are lost', (checkpoints: Checkpoints) => checkpoints.abandon()],
    [
      'the run is told to stop',
      async (_: Checkpoints, stop: AbortController) =>
        Promise.resolve().then(() => {
          stop.abort();
        }),
    ],
  ])('are written with rests, until %s', async (_, wait) => {
    const stop = new AbortController();
    const checkpoints = new Checkpoints({ folder, plan: large, keep: 3, stop: stop.signal, say: () => undefined });
    const taken = { count: 0 };
    checkpoints.begin(factsAt(1), snapshot(1, taken, large));
    await sleep(100);
    // Each of 34 pieces takes its time, half a millisecond or more, and 31 times as long a rest; without rests all blocks would be there.
    expect(taken.count).toBeLessThan(2 * towerParameters(large, 0).length);
    await wait(checkpoints, stop);
    await expect.poll(() => checkpoints.lastStep, { timeout: 1500, interval: 10 }).toBe(1);
    // The pointer to it follows, in the folder that is removed next.
    await checkpoints.settled();
  });

  test('that failed once do not count any more after one that was written; the last one must be', async () => {
    const path = join(folder, 'taken');
    const checkpoints = checkpointsIn(path);
    for (const step of [1, 2, 3, 4, 5]) {
      if (step % 2 === 1) writeFileSync(path, '');
      checkpoints.begin(factsAt(step), snapshot(step));
      await checkpoints.settled();
      rmSync(path, { recursive: true });
    }
    expect(lines).toHaveLength(3);
    await expect(checkpoints.finish()).rejects.toThrow(/step-00000005/);
  });
});
