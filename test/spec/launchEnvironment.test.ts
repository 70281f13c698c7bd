// Every variable of the table, and who wins when a flag, a variable and another variable disagree.

import { describe, expect, test } from 'vitest';
import { UsageError } from '../../src/spec/errors.ts';
import { bindAddress, workerPlace } from '../../src/spec/launchEnvironment.ts';
import type { Environment, WorkerFlags } from '../../src/spec/launchEnvironment.ts';

const nothingSaid: WorkerFlags = { tower: undefined, coordinator: undefined, gpu: undefined, cpu: false };
const srun = { SLURM_STEP_ID: '0' };

function place(environment: Environment, flags: Partial<WorkerFlags> = {}, gpus = 4) {
  return workerPlace({ ...nothingSaid, ...flags }, environment, () => gpus);
}

describe('a worker, told by its environment', () => {
  test('without any, takes a free tower of the coordinator on this machine', () => {
    expect(place({})).toEqual({ tower: 'auto', coordinator: 'tcp://127.0.0.1:5570', gpu: undefined, notes: [] });
  });

  test.each<[Environment, string]>([
    [{ RANK: '0' }, '0'],
    [{ RANK: '1', WORLD_SIZE: '2' }, '1'],
    [{ RANK: '4', WORLD_SIZE: '6' }, '0'],
    [{ RANK: '5', WORLD_SIZE: '6' }, '1'],
    [{ ...srun, SLURM_PROCID: '1', SLURM_NTASKS: '2' }, '1'],
    [{ JOB_COMPLETION_INDEX: '1' }, '1'],
    [{ RANK: '1', ...srun, SLURM_PROCID: '1' }, '1'],
    // A world of one has no towers to tell apart.
    [{ RANK: '0', WORLD_SIZE: '1' }, 'auto'],
    // In a batch script srun has placed nothing.
    [{ SLURM_PROCID: '0', SLURM_NTASKS: '2', SLURM_LOCALID: '0' }, 'auto'],
    [{ RANK: '' }, 'auto'],
  ])('%j: tower %s', (environment, tower) => {
    expect(place(environment, { cpu: true }).tower).toBe(tower);
  });

  test.each<[Environment, string]>([
    [{ MASTER_ADDR: 'node1', MASTER_PORT: '7000' }, 'tcp://node1:7000'],
    [{ MASTER_ADDR: 'node1' }, 'tcp://node1:5570'],
    [{ MASTER_PORT: '7000' }, 'tcp://127.0.0.1:7000'],
    [{ MASTER_ADDR: 'fd00::1', MASTER_PORT: '7000' }, 'tcp://[fd00::1]:7000'],
    [{ ...srun, SLURM_LAUNCH_NODE_IPADDR: '10.0.0.7', MASTER_PORT: '7000' }, 'tcp://10.0.0.7:7000'],
    // A name and a number may well be the same host.
    [{ ...srun, SLURM_LAUNCH_NODE_IPADDR: '10.0.0.7', MASTER_ADDR: 'node1' }, 'tcp://node1:5570'],
  ])('%j: coordinator at %s', (environment, coordinator) => {
    expect(place(environment).coordinator).toBe(coordinator);
  });

  test.each<[Environment, WorkerFlags['gpu'], number, number | undefined]>([
    [{ LOCAL_RANK: '1' }, undefined, 4, 1],
    [{ LOCAL_RANK: '1' }, 'auto', 4, 1],
    [{ ...srun, SLURM_LOCALID: '2' }, undefined, 4, 2],
    // One in sight: the scheduler has chosen, or there is no other.
    [{ LOCAL_RANK: '1', CUDA_VISIBLE_DEVICES: '3' }, undefined, 4, 3],
    [{ LOCAL_RANK: '1' }, undefined, 1, 0],
    [{}, 'auto', 1, 0],
    [{ LOCAL_RANK: '1', CUDA_VISIBLE_DEVICES: '2,3' }, 'auto', 4, 3],
    [{ CUDA_VISIBLE_DEVICES: '2,3' }, undefined, 4, undefined],
  ])('%j, --gpu %s, %i GPUs: GPU %s', (environment, gpu, gpus, index) => {
    expect(place(environment, { gpu }, gpus).gpu).toBe(index);
  });

  test('computes on the CPU when told so, without a look at the GPUs', () => {
    const countGpus = (): number => expect.unreachable('nobody asks for GPUs');
    expect(workerPlace({ ...nothingSaid, cpu: true }, { LOCAL_RANK: '1' }, countGpus).gpu).toBeUndefined();
  });
});

describe('a flag wins over a variable, and a line names both', () => {
  test.each<[Environment, Partial<WorkerFlags>, string[]]>([
    [{ RANK: '0' }, { tower: '1' }, ['--tower 1 wins over RANK=0']],
    [{ RANK: '3' }, { tower: '1' }, []],
    [{ RANK: '0', ...srun, SLURM_PROCID: '1' }, { tower: 'both' }, ['--tower both wins over RANK=0 SLURM_PROCID=1']],
    [{ RANK: 'first' }, { tower: '1' }, ['--tower 1 wins over RANK=first']],
    [{ LOCAL_RANK: '1' }, { gpu: 3 }, ['--gpu 3 wins over LOCAL_RANK=1']],
    [{ LOCAL_RANK: '3' }, { gpu: 3 }, []],
    [
      { MASTER_ADDR: 'node1', MASTER_PORT: '7000' },
      { coordinator: 'tcp://node2:7000' },
      ['--coordinator tcp://node2:7000 wins over MASTER_ADDR=node1 MASTER_PORT=7000'],
    ],
    [{ MASTER_ADDR: 'node1', MASTER_PORT: '7000' }, { coordinator: 'tcp://node1:7000' }, []],
  ])('%j, %j: %j', (environment, flags, notes) => {
    const found = place(environment, { cpu: !('gpu' in flags), ...flags });
    expect(found.notes).toEqual(notes);
    expect(found).toMatchObject(Object.fromEntries(Object.entries(flags)));
  });
});

describe('what makes no sense is refused by name', () => {
  test.each<[Environment, Partial<WorkerFlags>, string]>([
    [{ RANK: '0', ...srun, SLURM_PROCID: '1' }, {}, 'RANK=0 contradicts SLURM_PROCID=1; unset one, or say --tower'],
    [
      { RANK: '0', WORLD_SIZE: '4', ...srun, SLURM_NTASKS: '2' },
      {},
      'WORLD_SIZE=4 contradicts SLURM_NTASKS=2; unset one, or say --tower',
    ],
    [{ LOCAL_RANK: '0', ...srun, SLURM_LOCALID: '1' }, {}, 'LOCAL_RANK=0 contradicts SLURM_LOCALID=1; unset one, or say --gpu N'],
    [{ RANK: '-1' }, {}, 'RANK=-1 is not a whole number; correct it, or say --tower'],
    [{ RANK: '2', WORLD_SIZE: '2' }, {}, 'RANK=2 does not fit WORLD_SIZE=2: ranks begin at 0'],
    [{ RANK: '2', WORLD_SIZE: '3' }, {}, 'WORLD_SIZE=3: workers come in pairs, one for each tower, so that their number is even'],
    [{ MASTER_PORT: '70000' }, {}, 'MASTER_PORT=70000 is not a port'],
    [{ LOCAL_RANK: '4' }, {}, '--gpu auto: LOCAL_RANK=4, and the GPUs in sight are 0, 1, 2, 3; say --gpu N, or --cpu'],
    [
      {},
      { gpu: 'auto' },
      '--gpu auto: none of LOCAL_RANK and SLURM_LOCALID is set, and the GPUs in sight are 0, 1, 2, 3; say --gpu N, or --cpu',
    ],
    [
      { CUDA_VISIBLE_DEVICES: 'MIG-1234' },
      { gpu: 'auto' },
      '--gpu auto: CUDA_VISIBLE_DEVICES=MIG-1234 names no GPUs by number; say --gpu N',
    ],
  ])('%j, %j: %s', (environment, flags, message) => {
    expect(() => place(environment, flags)).toThrow(new UsageError(message));
  });
});

describe('where a coordinator listens', () => {
  test.each<[string | undefined, Environment, string, string[]]>([
    [undefined, {}, 'tcp://127.0.0.1:5570', []],
    [undefined, { MASTER_PORT: '7000' }, 'tcp://0.0.0.0:7000', []],
    [undefined, { MASTER_PORT: '7000', MASTER_ADDR: 'node1' }, 'tcp://0.0.0.0:7000', []],
    [undefined, { MASTER_PORT: '7000', MASTER_ADDR: '127.0.0.1' }, 'tcp://127.0.0.1:7000', []],
    [undefined, { MASTER_PORT: '7000', MASTER_ADDR: '::1' }, 'tcp://[::1]:7000', []],
    // An address alone may be a name of this machine or another's: it opens nothing.
    [undefined, { MASTER_ADDR: 'node1' }, 'tcp://127.0.0.1:5570', []],
    ['tcp://10.0.0.5:7000', { MASTER_PORT: '7000' }, 'tcp://10.0.0.5:7000', []],
    ['ipc:///run/a', { MASTER_PORT: '7000' }, 'ipc:///run/a', ['--bind ipc:///run/a wins over MASTER_PORT=7000']],
  ])('--bind %s, %j: %s', (bind, environment, address, notes) => {
    const heard: string[] = [];
    expect(bindAddress(bind, environment, (line) => heard.push(line))).toBe(address);
    expect(heard).toEqual(notes);
  });
});
