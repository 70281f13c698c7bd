// Runs that go on. The oracle: after any stop and resume the weights, the velocities, the metrics and the order are those of the run that was
// never stopped, to the bit.

import { appendFileSync, existsSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect } from 'vitest';
import { Stage, endless, test, until } from './stage.ts';
import type { Flags } from './stage.ts';

/** 40 steps an epoch of 640 pictures less the test split; checkpoints and ends lie within epochs. */
const flags: Flags = { local: 'cpu', threads: 1, steps: 30, 'checkpoint-every': 7 };
const soonMs = 60_000;
/** A run that goes on has its config already. */
const noFields: Flags = {
  network: undefined,
  data: undefined,
  init: undefined,
  batch: undefined,
  'eval-every': undefined,
  'run-dir': undefined,
};

function momentumOf(stage: Stage, runDir = 'run'): Buffer {
  return readFileSync(join(stage.path(runDir), 'checkpoints/last/momentum.safetensors'));
}

describe('a run that goes on', () => {
  let model = '';
  let momentum: Buffer;
  let whole: unknown[];
  beforeAll(async () => {
    const stage = new Stage();
    model = await stage.trainedModel(flags, 'run');
    momentum = momentumOf(stage);
    whole = stage.course();
    stage.clear();
  });

  function expectWhole(stage: Stage, runDir = 'run'): void {
    expect(stage.course(runDir)).toEqual(whole);
    expect(stage.modelHash(runDir)).toBe(model);
    expect(momentumOf(stage, runDir).equals(momentum)).toBe(true);
  }

  test('after SIGINT within an epoch ends as if it had never stopped, also with both towers in one process', async ({
    stage,
  }) => {
    const first = stage.coordinator({ ...flags, steps: endless });
    await stage.reached(10);
    first.signal('SIGINT');
    expect(await first.exit(soonMs)).toBe(75);
    expect(first.output).toMatch(/checkpoint +run\/checkpoints\/step-\d{8}, go on with --resume run/);
    const second = stage.coordinator({ resume: 'run', local: 'cpu', threads: 1, steps: 30, 'one-process': true, ...noFields });
    expect(await second.exit(soonMs), second.output).toBe(0);
    expect(second.output).toMatch(/going on after step \d+, from run\/checkpoints\/step-/);
    expectWhole(stage);
  });

  test('after SIGKILL goes on from its last checkpoint, and what came after it is done again', async ({ stage }) => {
    const first = stage.coordinator({ ...flags, steps: endless });
    await stage.reached(17);
    first.signal('SIGKILL');
    expect(await first.exit(soonMs)).toBe('SIGKILL');
    await stage.expectEmpty(8000);
    const second = stage.coordinator({ resume: 'auto', ...flags });
    expect(await second.exit(soonMs), second.output).toBe(0);
    expect(second.output).toMatch(/run.lock was left behind by a process that is gone/);
    expectWhole(stage);
  });

  test('after SIGKILL in the middle of a save goes on from the checkpoint before', async ({ stage }) => {
    const first = stage.coordinator({ ...flags, steps: endless, 'checkpoint-every': 1 });
    const folder = join(stage.path('run'), 'checkpoints');
    await stage.reached(5);
    const isSaving = (): boolean => readdirSync(folder).some((name) => name.includes('.tmp-'));
    await until('a checkpoint that is being written', isSaving, 20_000);
    first.signal('SIGKILL');
    await first.exit(soonMs);
    await stage.expectEmpty(8000);
    const second = stage.coordinator({ resume: 'auto', ...flags });
    expect(await second.exit(soonMs), second.output).toBe(0);
    expectWhole(stage);
    expect(readdirSync(folder).filter((name) => name.includes('.tmp-'))).toEqual([]);
  });

  test('branches off into a folder of its own, from a checkpoint that is named', async ({ stage }) => {
    await stage.trainedModel({ ...flags, keep: 10 }, 'run');
    const from = 'run/checkpoints/step-00000014';
    const inPlace = stage.coordinator({ resume: from, ...noFields });
    expect(await inPlace.exit(soonMs)).toBe(2);
    expect(inPlace.lastLine).toMatch(/is not the newest checkpoint of its run \(that is step-00000030\)/);
    const branch = stage.coordinator({ resume: from, ...flags, ...noFields, local: 'cpu', threads: 1, 'run-dir': 'branch' });
    expect(await branch.exit(soonMs), branch.output).toBe(0);
    expect(stage.modelHash('branch')).toBe(model);
    expect(stage.steps('branch').map(({ step }) => step)).toEqual(Array.from({ length: 16 }, (_, i) => 15 + i));
  });

  test('passes over broken checkpoints with a warning, and refuses one that is named', async ({ stage }) => {
    await stage.trainedModel({ ...flags, keep: 10 }, 'run');
    const folder = join(stage.path('run'), 'checkpoints');
    truncateSync(join(folder, 'step-00000030/momentum.safetensors'), 1000);
    const bytes = readFileSync(join(folder, 'step-00000028/model.safetensors'));
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(join(folder, 'step-00000028/model.safetensors'), bytes);
    rmSync(join(folder, 'step-00000021/manifest.json'));
    const named = stage.coordinator({ resume: 'run/checkpoints/step-00000030', ...noFields });
    expect(await named.exit(soonMs)).toBe(6);
    expect(named.lastLine).toMatch(/step-00000030 is broken: momentum.safetensors: it has 1000 bytes/);
    const auto = stage.coordinator({ resume: 'auto', ...flags });
    expect(await auto.exit(soonMs), auto.output).toBe(0);
    expect(auto.output).toMatch(/step-00000028 is broken: model.safetensors: its contents are not what was written/);
    expect(auto.output).toMatch(/step-00000021 is broken: manifest.json/);
    expect(auto.output).toMatch(/going on after step 14/);
    expectWhole(stage);
    expect(existsSync(join(folder, 'step-00000030.broken-1'))).toBe(true);
  });

  test('refuses another config by name, and takes what may change', async ({ stage }) => {
    await stage.trainedModel({ ...flags, steps: 10 }, 'run');
    const other = stage.coordinator({ resume: 'auto', ...flags, lr: 0.5, momentum: 0.5 });
    expect(await other.exit(soonMs)).toBe(2);
    expect(other.lastLine).toMatch(/lr: 0.01 before, 0.5 now; momentum: 0.9 before, 0.5 now.*--allow-change lr,momentum/);
    const allowed = stage.coordinator({ resume: 'auto', ...flags, steps: 12, lr: 0.5, 'allow-change': 'lr' });
    expect(await allowed.exit(soonMs), allowed.output).toBe(0);
    expect(
      stage
        .steps()
        .map(({ learningRate }) => learningRate)
        .slice(9),
    ).toEqual([0.01, 0.5, 0.5]);
  });

  test('keeps the newest checkpoints and the best, and a second coordinator is refused', async ({ stage }) => {
    const run = stage.coordinator({ ...flags, 'checkpoint-every': 2, keep: 2, 'eval-every': 1, steps: endless });
    await stage.reached(45);
    const second = stage.coordinator({ resume: 'auto', ...flags, 'eval-every': 1 });
    expect(await second.exit(soonMs)).toBe(4);
    expect(second.lastLine).toMatch(/run is in use by a coordinator on .*, pid \d+/);
    run.signal('SIGTERM');
    expect(await run.exit(soonMs)).toBe(75);
    const names = readdirSync(join(stage.path('run'), 'checkpoints'));
    expect(names).toEqual(expect.arrayContaining(['best', 'last']));
    expect(names.filter((name) => name.startsWith('step-')).length).toBeLessThanOrEqual(3);
  });
});

describe('--resume', () => {
  test('auto begins a new run where there is none, and a folder in which no step was done is taken again', async ({ stage }) => {
    const failed = stage.coordinator({ data: 'nowhere', ...flags });
    expect(await failed.exit(soonMs)).toBe(5);
    const run = stage.coordinator({ resume: 'auto', ...flags, steps: 2 });
    expect(await run.exit(soonMs), run.output).toBe(0);
    expect(run.output).toMatch(/no checkpoint to go on from: a new run/);
  });

  test('ends with 6 where every checkpoint is broken, and writes nothing', async ({ stage }) => {
    await stage.trainedModel({ ...flags, steps: 3 }, 'run');
    appendFileSync(join(stage.path('run'), 'checkpoints/step-00000003/model.safetensors'), 'x');
    const before = readdirSync(stage.path('run')).sort();
    const run = stage.coordinator({ resume: 'auto', ...flags });
    expect(await run.exit(soonMs)).toBe(6);
    expect(run.lastLine).toMatch(/no checkpoint in run\/checkpoints is whole/);
    expect(readdirSync(stage.path('run')).sort()).toEqual(before);
  });
});
