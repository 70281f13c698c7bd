// Processes that end, stop or are stuck at a named point of one step (src/spec/failpoint.ts). The oracle is that of recovery.test.ts.

import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect } from 'vitest';
import { Stage, test } from './stage.ts';
import type { Flags } from './stage.ts';

const flags: Flags = { steps: 30, 'checkpoint-every': 7, 'max-restarts': 3 };
const soonMs = 30_000;

let model = '';
let whole: unknown[];
beforeAll(async () => {
  const stage = new Stage();
  model = await stage.trainedModel({ ...flags, local: 'cpu', threads: 1 }, 'run');
  whole = stage.course();
  stage.clear();
});

function expectWhole(stage: Stage): void {
  expect(stage.course()).toEqual(whole);
  expect(stage.modelHash()).toBe(model);
}

describe('a worker that is killed', () => {
  test('at a point of forward, backward or update, or between the updates of the towers, comes back, each time', async ({
    stage,
  }) => {
    const coordinator = stage.coordinator(flags);
    const address = await coordinator.address();
    const survivor = stage.worker({ coordinator: address, tower: 0 });
    const points = ['forward.conv2=kill@12', 'backward.conv3=kill@15', 'updated.tower1=kill@20', 'update.tower1=kill@29'];
    for (const [i, point] of points.entries()) {
      const victim = stage.worker({ coordinator: address, tower: 1 }, point);
      expect(await victim.exit(soonMs), victim.output).toBe(3);
      expect(victim.lastLine).toMatch(/killed by SIGKILL/);
      await coordinator.said(new RegExp(`(going back to step [^]*){${i + 1}}`));
    }
    const last = stage.worker({ coordinator: address, tower: 1 });
    expect(await coordinator.exit(soonMs), coordinator.output).toBe(0);
    expect(await Promise.all([survivor.exit(), last.exit()])).toEqual([0, 0]);
    expect(coordinator.output.match(/last heard '\w+' of step \d+/g)).toHaveLength(4);
    expectWhole(stage);
  });

  test('between the updates of its two towers, in one process, never leaves them a step apart', async ({ stage }) => {
    const coordinator = stage.coordinator(flags);
    const address = await coordinator.address();
    const victim = stage.worker({ coordinator: address, tower: 'both' }, 'update.tower1=kill@12');
    expect(await victim.exit(soonMs), victim.output).toBe(3);
    const next = stage.worker({ coordinator: address, tower: 'both' });
    expect(await coordinator.exit(soonMs), coordinator.output).toBe(0);
    expect(await next.exit()).toBe(0);
    expectWhole(stage);
  });
});

describe('a worker that is alive and gets nowhere', () => {
  test('stuck in a loop, is named after --step-timeout with the last messages, and replaced; the other one stays', async ({
    stage,
  }) => {
    const coordinator = stage.coordinator({ ...flags, 'step-timeout': 2 });
    const address = await coordinator.address();
    const survivor = stage.worker({ coordinator: address, tower: 0 });
    const stuck = stage.worker({ coordinator: address, tower: 1 }, 'forward.conv2=spin@10');
    await coordinator.said(/step 10: no 'gradients' from tower 1 \(.+\), which does not answer.*; going back to step [07],/);
    const next = stage.worker({ coordinator: address, tower: 1 });
    expect(await coordinator.exit(soonMs), coordinator.output).toBe(0);
    expect(await Promise.all([survivor.exit(), next.exit()])).toEqual([0, 0]);
    expectWhole(stage);
    const log = readFileSync(join(stage.path('run'), 'logs/coordinator.log'), 'utf8');
    expect(log).toMatch(/the last messages:\n(\d+ ms ago (in|out) \w+ .*\n){64}/);
    expect(survivor.output).toMatch(/ {2}other tower: \d+ ms ago out tensor step 10 /);
    // Nobody can end it but who started it.
    stuck.signal('SIGTERM');
    await stuck.said(/once more/);
    await sleep(150);
    stuck.signal('SIGTERM');
    expect(await stuck.exit()).toBe(143);
  });

  test('out of memory, is not tried again: exit 8, with a hint; its peer ends soon', async ({ stage }) => {
    const coordinator = stage.coordinator(flags);
    const address = await coordinator.address();
    const peer = stage.worker({ coordinator: address, tower: 0 });
    const short = stage.worker({ coordinator: address, tower: 1 }, 'forward.conv2=oom@5');
    expect(await coordinator.exit(soonMs)).toBe(8);
    expect(coordinator.lastLine).toMatch(
      /tower 1 \(.+\): the device has no memory left .*: try a smaller --batch or --micro-batch/,
    );
    expect(await Promise.all([peer.exit(3000), short.exit(3000)])).toEqual([8, 8]);
  });
});

test('a coordinator that is killed at any point of a save leaves a run that goes on', async ({ stage }) => {
  const local: Flags = { ...flags, 'checkpoint-every': 4, local: 'cpu', threads: 1, resume: 'auto' };
  const names = ['write', 'manifest', 'fsync', 'rename', 'pointer', 'prune'];
  const from: string[] = [];
  for (const [i, name] of names.entries()) {
    const coordinator = stage.coordinator(local, `checkpoint.${name}=kill@${4 * (i + 1)}`);
    expect(await coordinator.exit(soonMs), coordinator.output).toBe('SIGKILL');
    from.push(/going on after step (\d+)/.exec(coordinator.output)?.[1] ?? 'none');
    await stage.expectEmpty(5000);
  }
  const last = stage.coordinator(local);
  expect(await last.exit(soonMs), last.output).toBe(0);
  // The folder has its name before the pointer moves.
  expect(from).toEqual(['none', 'none', '4', '8', '12', '20']);
  expectWhole(stage);
  expect(readdirSync(join(stage.path('run'), 'checkpoints')).filter((name) => name.includes('.tmp'))).toEqual([]);
});

test('an fsync that fails leaves the checkpoint uncommitted, and training goes on; three in a row end the run with 6', async ({
  stage,
}) => {
  const local: Flags = { ...flags, local: 'cpu', threads: 1 };
  const once = stage.coordinator(local, 'checkpoint.fsync=eio@14');
  expect(await once.exit(soonMs), once.output).toBe(0);
  expect(once.output).toMatch(/step-00000014 could not be written: EIO.*; training goes on/);
  expectWhole(stage);
  const always = stage.coordinator({ ...local, 'run-dir': 'always' }, 'checkpoint.fsync=eio');
  expect(await always.exit(soonMs)).toBe(6);
  expect(readdirSync(join(stage.path('always'), 'checkpoints'))).toEqual([]);
});
