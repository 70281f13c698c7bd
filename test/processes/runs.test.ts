// Whole runs that nothing disturbs: every way to start one trains the same network, and leaves the same files behind.

import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect } from 'vitest';
import { parse } from 'yaml';
import { pythonOr } from '../python.ts';
import { endless, freeAddress, Stage, test } from './stage.ts';
import type { Command, Flags } from './stage.ts';

const stepsPerEpoch = 10;
const twoEpochs: Flags = { epochs: 2, batch: 64, 'eval-every': 1 };

describe('a run of two epochs', () => {
  let model = '';
  beforeAll(async () => {
    const stage = new Stage();
    model = await stage.trainedModel(twoEpochs);
    stage.clear();
  });

  test('with three commands, the workers first, comes to the weights of one that starts its workers itself', async ({
    stage,
  }) => {
    const address = await freeAddress();
    const workers = [stage.worker({ coordinator: address }), stage.worker({ coordinator: address })];
    const coordinator = stage.coordinator({ ...twoEpochs, bind: address });
    expect(await coordinator.exit()).toBe(0);
    expect(await Promise.all(workers.map((worker) => worker.exit()))).toEqual([0, 0]);
    for (const { lastLine } of workers) expect(lastLine).toBe('worker: the run is done');
    expect(stage.modelHash()).toBe(model);
    expectFiles(stage, { logs: ['coordinator.log'] });
  });

  test('with three commands, the coordinator first, does so as well', async ({ stage }) => {
    const { coordinator, workers } = await stage.run(twoEpochs);
    expect(await coordinator.exit()).toBe(0);
    expect(await Promise.all(workers.map((worker) => worker.exit()))).toEqual([0, 0]);
    expect(stage.modelHash()).toBe(model);
  });

  test('with both towers in one process does so as well, and logs what its worker says', async ({ stage }) => {
    const coordinator = stage.coordinator({ ...twoEpochs, local: 'cpu', threads: 1, 'one-process': true });
    expect(await coordinator.exit()).toBe(0);
    expect(stage.modelHash()).toBe(model);
    expectFiles(stage, { logs: ['coordinator.log', 'worker-both.log'] });
    expect(readFileSync(stage.path('run/logs/worker-both.log'), 'utf8')).toContain('worker: assigned tower both');
  });

  test('traced and profiled, is the same run, with a trace to look at and a table', async ({ stage }) => {
    const trace = stage.path('trace.json');
    const coordinator = stage.coordinator({ ...twoEpochs, local: 'cpu', threads: 1, trace, profile: 2 });
    expect(await coordinator.exit()).toBe(0);
    expect(stage.modelHash()).toBe(model);

    const { traceEvents } = JSON.parse(readFileSync(trace, 'utf8')) as { traceEvents: Record<string, unknown>[] };
    const spans = traceEvents.filter(({ ph }) => ph === 'X') as { pid: number; name: string; ts: number; dur: number }[];
    for (const pid of [1, 2]) {
      const steps = spans.filter((span) => span.pid === pid && span.name.startsWith('step '));
      expect(steps.map(({ name }) => name)).toEqual(['step 11', 'step 12']);
      const inside = spans.filter((span) => span.pid === pid && span.name === 'conv2 forward');
      expect(inside).toHaveLength(2);
      // In a crossing a layer is done in two spans, before and after the wait that another part may fill.
      expect(spans.filter((span) => span.pid === pid && span.name === 'conv3 forward')).toHaveLength(4);
      inside.forEach(({ ts, dur }, i) => {
        expect(ts).toBeGreaterThanOrEqual(steps[i]?.ts ?? Infinity);
        expect(ts + dur).toBeLessThanOrEqual((steps[i]?.ts ?? 0) + (steps[i]?.dur ?? 0));
      });
    }
    expect(spans.some(({ pid, name }) => pid === 0 && name.startsWith('load batch'))).toBe(true);
    for (const layer of ['conv1', 'conv5', 'fc8', 'wait for the other tower']) expect(coordinator.output).toContain(layer);
  });

  test('records its config, every step and every evaluation, and says where', async ({ stage }) => {
    const coordinator = stage.coordinator({ ...twoEpochs, local: 'cpu', threads: 1 });
    expect(await coordinator.exit()).toBe(0);
    expectFiles(stage, { logs: ['coordinator.log', 'worker-0.log', 'worker-1.log'] });

    const config: unknown = parse(readFileSync(stage.path('run/config.yaml'), 'utf8'));
    expect(config).toMatchObject({ network: 'tiny', data: 'synthetic:64,10,640', epochs: 2, batch: 64, seed: 1, momentum: 0.9 });

    const kinds = stage.metrics().map((record) => record['kind']);
    const epoch = [...Array.from({ length: stepsPerEpoch }, () => 'step'), 'eval'];
    expect(kinds).toEqual([...epoch, ...epoch]);
    const share = expect.toSatisfy((value: unknown) => typeof value === 'number' && value >= 0 && value <= 1) as unknown;
    const positive = expect.toSatisfy((value: unknown) => Number.isFinite(value) && (value as number) > 0) as unknown;
    const duration = expect.toSatisfy((value: unknown) => Number.isFinite(value) && (value as number) >= 0) as unknown;
    const parts = { dataWait: duration, compute: duration, exchangeWait: duration, sync: duration, update: duration };
    for (const [i, record] of stage.steps().entries()) {
      expect(record).toMatchObject({
        step: i + 1,
        epoch: Math.floor(i / stepsPerEpoch) + 1,
        loss: positive,
        top1: share,
        learningRate: 0.01,
        imagesPerSecond: positive,
        ms: [parts, parts],
      });
    }
    const evaluations = stage.metrics().filter((record) => record['kind'] === 'eval');
    for (const [i, record] of evaluations.entries())
      expect(record).toMatchObject({ epoch: i + 1, top1: share, top5: share, loss: positive });

    expect(coordinator.output).toContain('epoch 2  test top-1');
    expect(coordinator.output).toMatch(/^model +run\/model\.safetensors$/m);
    expect(coordinator.output).toMatch(/^metrics +run\/metrics\.jsonl$/m);
  });

  test('goes on when nobody reads its output any more', async ({ stage }) => {
    const coordinator = stage.coordinator({ ...twoEpochs, local: 'cpu', threads: 1 });
    await coordinator.said(/^config: /m);
    coordinator.closeOutput();
    expect(await coordinator.exit()).toBe(0);
    expect(stage.modelHash()).toBe(model);
  });
});

test('of a local run, what the coordinator does ahead gives way to the workers', async ({ stage }) => {
  const coordinator = stage.coordinator({ steps: endless, local: 'cpu', threads: 1, 'loader-threads': 2 });
  await stage.reached(1);
  const niceOf = (pid: number, thread: string | number): number =>
    // Behind the name, which is in parentheses: the nineteenth field of all.
    Number(
      readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ')[16],
    );
  const own = niceOf(process.pid, process.pid);
  const { pid } = stage.processes().find(({ args }) => args.some((arg) => arg.endsWith('coordinator/cli.js')))!;
  const threads = readdirSync(`/proc/${pid}/task`).map((thread) => ({
    isMain: thread === String(pid),
    nice: niceOf(pid, thread),
  }));
  expect(threads.length).toBeGreaterThan(3);
  for (const { isMain, nice } of threads) expect(nice).toBe(isMain ? own : 10);
  for (const tower of [0, 1] as const) {
    const worker = await stage.realWorker(tower);
    for (const thread of readdirSync(`/proc/${worker.pid}/task`)) expect(niceOf(worker.pid, thread)).toBe(own);
  }
  coordinator.signal('SIGINT');
  expect(await coordinator.exit()).toBe(75);
});

describe('the model', () => {
  test("is one safetensors file of the merged network, as the format's specification has it", async ({ stage }) => {
    await stage.trainedModel({ steps: 3 }, 'run');
    const file = readFileSync(stage.path('run/model.safetensors'));
    const headerBytes = Number(file.readBigUInt64LE());
    expect(headerBytes % 8).toBe(0);
    const text = file.subarray(8, 8 + headerBytes).toString('utf8');
    expect(text.startsWith('{')).toBe(true);
    const header = JSON.parse(text) as Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;
    const { __metadata__: metadata, ...tensors } = header;
    expect(metadata).toMatchObject({ network: 'tiny', step: '3' });

    expect(Object.fromEntries(Object.entries(tensors).map(([name, { shape }]) => [name, shape]))).toEqual(tinyShapes);
    let end = 0;
    for (const { dtype, shape, data_offsets: offsets } of Object.values(tensors)) {
      expect(dtype).toBe('F32');
      // The data is covered without holes, in the header's order.
      expect(offsets[0]).toBe(end);
      end = offsets[1];
      expect(offsets[1] - offsets[0]).toBe(4 * shape.reduce((product, size) => product * size, 1));
    }
    expect(file.length).toBe(8 + headerBytes + end);
    const values = Array.from({ length: end / 4 }, (_, i) => file.readFloatLE(8 + headerBytes + 4 * i));
    expect(values.every(Number.isFinite)).toBe(true);
    expect(new Set(values).size).toBeGreaterThan(values.length / 2);
  });

  test("is read by Python's safetensors", async ({ stage, skip }) => {
    const python = pythonOr(skip);
    await stage.trainedModel({ steps: 3 }, 'run');
    const script =
      'import json, sys; from safetensors.numpy import load_file; ' +
      'print(json.dumps({name: [str(t.dtype), *t.shape] for name, t in load_file(sys.argv[1]).items()}))';
    const printed = python(script, stage.path('run/model.safetensors'));
    expect(JSON.parse(printed)).toEqual(
      Object.fromEntries(Object.entries(tinyShapes).map(([name, shape]) => [name, ['float32', ...shape]])),
    );
  });
});

describe('a run of 300 steps', () => {
  test('takes no more memory, opens no more files and prints few lines without a terminal', async ({ stage }) => {
    const { coordinator } = await stage.run({ steps: endless });
    await stage.reached(100);
    const early = await footprints(stage, coordinator);
    await stage.reached(300);
    const late = await footprints(stage, coordinator);
    // One line in ten seconds at most; the rest of it says who has joined and what is trained.
    expect(coordinator.lines.length).toBeLessThan(15);
    coordinator.signal('SIGINT');
    expect(await coordinator.exit()).toBe(75);
    for (const [i, { name, megabytes, files }] of late.entries()) {
      // One tensor too many in each step, the pictures of a batch (0.5 MB) or a map of conv1 (0.3 MB), would add 60 to 100 MB. What V8
      // and the allocator take back and forth was 3 to 10 when this was written.
      expect(megabytes - early[i]!.megabytes, `growth of ${name} in MB`).toBeLessThan(30);
      expect(files, `open files of ${name}`).toBe(early[i]!.files);
    }
  });
});

/** Both towers' halves in one: convolutions [kh, kw, in, out], of half the input where grouped, and dense [in, out]. */
const tinyShapes = {
  'conv1.weight': [5, 5, 3, 8],
  'conv1.bias': [8],
  'conv2.weight': [5, 5, 4, 16],
  'conv2.bias': [16],
  'conv3.weight': [3, 3, 16, 24],
  'conv3.bias': [24],
  'conv4.weight': [3, 3, 12, 24],
  'conv4.bias': [24],
  'conv5.weight': [3, 3, 12, 16],
  'conv5.bias': [16],
  'fc6.weight': [64, 32],
  'fc6.bias': [32],
  'fc7.weight': [32, 32],
  'fc7.bias': [32],
  'fc8.weight': [32, 10],
  'fc8.bias': [10],
};

/** The run's folder holds these files and no others, temporary ones least of all. */
function expectFiles(stage: Stage, { logs }: { logs: readonly string[] }): void {
  expect(readdirSync(stage.path('run')).sort()).toEqual([
    'checkpoints',
    'config.yaml',
    'logs',
    'metrics.jsonl',
    'model.safetensors',
  ]);
  expect(readdirSync(stage.path('run/logs')).sort()).toEqual(logs);
}

interface Footprint {
  readonly name: string;
  readonly megabytes: number;
  readonly files: number;
}

async function footprints(stage: Stage, coordinator: Command): Promise<Footprint[]> {
  const workers = await Promise.all(([0, 1] as const).map((tower) => stage.realWorker(tower)));
  return Promise.all([
    footprint('the coordinator', coordinator.pid),
    ...workers.map(({ pid }, tower) => footprint(`the worker of tower ${tower}`, pid)),
  ]);
}

async function footprint(name: string, pid: number): Promise<Footprint> {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))!;
  // The least of a second, and without the files of the checkpoint that is being written, at its leisure, most of the time.
  let files = Infinity;
  for (let look = 0; look < 20; look++) {
    files = Math.min(files, openFiles(pid).filter((path) => !/\/checkpoints(\/|$)/.test(path)).length);
    await sleep(50);
  }
  return { name, megabytes: Number(kilobytes) / 1024, files };
}

/** Where the open files of a process are, or what they are called. */
function openFiles(pid: number): string[] {
  const folder = join('/proc', String(pid), 'fd');
  return readdirSync(folder).flatMap((file) => {
    try {
      return [readlinkSync(join(folder, file))];
    } catch {
      return []; // Closed meanwhile.
    }
  });
}
