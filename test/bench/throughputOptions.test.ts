import { describe, expect, test } from 'vitest';
import { coordinatorArguments } from '../../bench/crosstowerRound.ts';
import { parseKernelOptions } from '../../bench/kernelOptions.ts';
import { parseThroughputOptions } from '../../bench/throughputOptions.ts';
import { networks } from '../../src/spec/network.ts';

describe('the command line of npm run bench', () => {
  test('without flags it is the paper network at batch 128, one thread a worker, no peers', () => {
    expect(parseThroughputOptions([])).toEqual({
      network: 'alexnet',
      batch: 128,
      steps: 15,
      rounds: 3,
      warmup: 10,
      threads: 1,
      peers: [],
      json: false,
      compare: undefined,
      flags: [],
    });
  });

  test('peers come with commas or one by one, each once', () => {
    for (const flags of [
      ['--peer', 'pytorch,tensorflow'],
      ['--peer', 'tensorflow', '--peer', 'pytorch', '--peer', 'pytorch'],
    ]) {
      expect(parseThroughputOptions(flags)).toMatchObject({ peers: ['tensorflow', 'pytorch'] });
    }
  });

  test('what follows -- belongs to the run', () => {
    expect(parseThroughputOptions(['--json', '--', '--micro-batch', '16', '--help'])).toMatchObject({
      json: true,
      flags: ['--micro-batch', '16', '--help'],
    });
  });

  test.each([
    [['--network', 'tiny'], "--network takes alexnet or compact, not 'tiny'"],
    [['--steps', '1'], '--steps takes a whole number from 2'],
    [['--rounds', '0'], '--rounds takes a whole number from 1'],
    [['--batch', '12.5'], "--batch takes a whole number from 1, not '12.5'"],
    [['--peer', 'jax'], "--peer takes tensorflow or pytorch, not 'jax'"],
    [['--fast'], '--help shows the options'],
    [['compact'], '--help shows the options'],
  ])('%j is refused with a reason', (flags, reason) => {
    expect(() => parseThroughputOptions(flags)).toThrow(reason);
  });

  test('--help comes before everything but mistakes', () => {
    expect(parseThroughputOptions(['--help', '--network', 'alexnet'])).toBe('help');
  });
});

describe('the command line of the run', () => {
  const options = { network: networks.compact, classes: 10, batch: 32, steps: 5, warmup: 2, threads: 1 };

  test('ends only after the measured steps, and its epochs hold whole batches', () => {
    const flags = coordinatorArguments({ ...options, flags: [] }, 'run');
    expect(Number(flags[flags.indexOf('--steps') + 1])).toBeGreaterThan(7);
    expect(flags[flags.indexOf('--data') + 1]).toBe('synthetic:67,10,256');
  });

  test("a user's flag replaces the benchmark's, in either form", () => {
    expect(
      coordinatorArguments({ ...options, flags: ['--augment', 'flip'] }, 'run').filter((flag) => flag === '--augment'),
    ).toHaveLength(1);
    expect(coordinatorArguments({ ...options, flags: ['--data=fashion-mnist'] }, 'run')).not.toContain('--data');
  });
});

describe('the command line of kernels', () => {
  test('takes batches with commas', () => {
    expect(parseKernelOptions([])).toEqual({ network: 'alexnet', batches: [32, 64], threads: 1, json: false });
    expect(parseKernelOptions(['--batch', '8', '--json'])).toMatchObject({ batches: [8], json: true });
    expect(() => parseKernelOptions(['--batch', '8,x'])).toThrow('--batch');
  });
});
