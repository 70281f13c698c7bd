// The parts of the launcher that decide: who is blamed, what its command line means.

import { describe, expect, test } from 'vitest';
import { deviceFlags } from '../../scripts/launch/local.mjs';
import { pairCount, readOptions, workerName } from '../../scripts/launch/options.mjs';
import { blame } from '../../scripts/launch/party.mjs';

describe('who is blamed for a failure', () => {
  const coordinator = { name: 'coordinator', coordinator: true, wasStopped: false };
  const tower = (index) => ({ name: `tower ${index}`, coordinator: false, wasStopped: false });
  const claims = [
    [
      'a worker that says why, although the coordinator ended first',
      [
        { ...coordinator, code: 8, ownWords: 'tower 1 ran out of memory' },
        { ...tower(0), code: 8, ownWords: undefined },
        { ...tower(1), code: 8, ownWords: 'out of memory' },
      ],
      'tower 1',
    ],
    [
      'the coordinator, when the workers only lost it',
      [
        { ...tower(0), code: 3, ownWords: 'the coordinator is gone' },
        { ...coordinator, code: 5, ownWords: 'there is no data' },
      ],
      'coordinator',
    ],
    [
      'the first that lost another, when nothing else is known',
      [
        { ...tower(1), code: 3, ownWords: 'the coordinator is gone' },
        { ...tower(0), code: 3, ownWords: 'the coordinator is gone' },
      ],
      'tower 1',
    ],
    [
      'not who was stopped because of it',
      [
        { ...coordinator, code: 3, ownWords: 'nobody joined' },
        { ...tower(0), code: 75, ownWords: 'stopped', wasStopped: true },
      ],
      'coordinator',
    ],
    ['the first of all when all were stopped', [{ ...tower(1), code: 75, ownWords: undefined, wasStopped: true }], 'tower 1'],
  ];
  test.each(claims)('%s', (_, failures, name) => {
    expect(blame(failures)?.name).toBe(name);
  });

  test('nobody when nothing failed', () => {
    expect(blame([])).toBeUndefined();
  });
});

describe('what each worker computes on', () => {
  test.each([
    [{}, 1, 0, ['--cpu', '--cpu']],
    [{}, 1, 1, ['--gpu=0', '--gpu=0']],
    [{}, 1, 4, ['--gpu=0', '--gpu=1']],
    [{}, 2, 4, ['--gpu=0', '--gpu=1', '--gpu=2', '--gpu=3']],
    [{ cpu: true }, 1, 4, ['--cpu', '--cpu']],
    [{ gpus: '2,3' }, 1, 0, ['--gpu=2', '--gpu=3']],
    [{ gpus: '0,0,1,1' }, 2, 2, ['--gpu=0', '--gpu=0', '--gpu=1', '--gpu=1']],
  ])('%j, %i pairs, %i GPUs: %j', (values, pairs, gpus, flags) => {
    expect(deviceFlags(values, pairs, () => gpus)).toEqual(flags);
  });

  test.each([
    [{ gpus: '0' }, 1, /--gpus is 2 GPU numbers such as 0,1, not '0'/],
    [{ gpus: '0,one' }, 1, /--gpus is 2 GPU numbers/],
    [{ gpus: '0,1' }, 2, /--gpus is 4 GPU numbers such as 0,1,2,3/],
    [{ gpus: '0,1', cpu: true }, 1, /exclude each other/],
  ])('refuses %j for %i pairs', (values, pairs, message) => {
    expect(() => deviceFlags(values, pairs, () => 2)).toThrow(message);
  });
});

describe('the command line', () => {
  const options = { port: { type: 'string' } };

  test('ends at the --, and the rest goes to the coordinator as it stands', () => {
    expect(readOptions(['--port', '7000', '--', '--network', 'tiny', '--port'], options)).toEqual({
      values: expect.objectContaining({ port: '7000' }),
      startFlags: ['--network', 'tiny', '--port'],
    });
  });

  test.each([
    [['--netwrok', 'tiny'], /Unknown option '--netwrok'; flags of the coordinator come after a --/],
    [['--', '--bind', 'tcp://127.0.0.1:1'], /--bind is the launcher's to choose/],
    [['--', '--local=cpu'], /--local is the launcher's to choose/],
  ])('refuses %j', (args, message) => {
    expect(() => readOptions(args, options)).toThrow(message);
  });

  test.each([
    [[], 1],
    [['--replicas', '2'], 2],
    [['--lr', '0.1', '--replicas=3'], 3],
  ])('%j: %i pairs', (flags, pairs) => {
    expect(pairCount(flags)).toBe(pairs);
  });

  test('names the workers of several pairs by pair and tower', () => {
    expect([0, 1].map((index) => workerName(index, 1))).toEqual(['tower 0', 'tower 1']);
    expect([0, 3].map((index) => workerName(index, 2))).toEqual(['pair 0 tower 0', 'pair 1 tower 1']);
  });
});
