// Two machines, as far as the network can tell: two network namespaces that a veth pair joins. What the processes know of each other comes
// from the environment, as a cluster sets it.

import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { isRoot, titled, works } from './programs.ts';
import { Stage, test } from './stage.ts';
import type { Command, Flags } from './stage.ts';

const namespaces = [`crosstower-${process.pid}-a`, `crosstower-${process.pid}-b`] as const;
const addresses = ['10.231.77.1', '10.231.77.2'] as const;
const port = '5570';

function whyNoNamespaces(): string | undefined {
  if (!isRoot) return 'network namespaces need root';
  if (!works('ip', 'netns', 'add', namespaces[0])) return 'network namespaces cannot be made here';
  execFileSync('ip', ['netns', 'delete', namespaces[0]]);
  return undefined;
}

const reason = whyNoNamespaces();

function ip(...words: readonly string[]): void {
  execFileSync('ip', words);
}

describe.skipIf(reason !== undefined)(titled('two hosts', reason), () => {
  let model = '';
  beforeAll(async () => {
    for (const namespace of namespaces) {
      ip('netns', 'add', namespace);
      ip('-n', namespace, 'link', 'set', 'lo', 'up');
    }
    ip('-n', namespaces[0], 'link', 'add', 'veth0', 'type', 'veth', 'peer', 'name', 'veth0', 'netns', namespaces[1]);
    for (const [i, namespace] of namespaces.entries()) {
      ip('-n', namespace, 'address', 'add', `${addresses[i]!}/24`, 'dev', 'veth0');
      ip('-n', namespace, 'link', 'set', 'veth0', 'up');
    }
    const stage = new Stage();
    model = await stage.trainedModel({ steps: 10 });
    stage.clear();
  });
  afterAll(() => {
    for (const namespace of namespaces) ip('netns', 'delete', namespace);
  });

  /** Starts a command on one of the hosts with what a cluster puts into its environment. */
  function startOn(
    host: 0 | 1,
    stage: Stage,
    script: string,
    args: readonly string[],
    environment: Readonly<Record<string, string>>,
  ): Command {
    const words = Object.entries({ MASTER_ADDR: addresses[0], MASTER_PORT: port, ...environment }).map(
      ([name, value]) => `${name}=${value}`,
    );
    return stage.start('ip', ['netns', 'exec', namespaces[host], 'env', ...words, process.execPath, script, ...args]);
  }

  // Beyond the loopback interface keys are asked for, where there are any.
  const insecure: Flags = { insecure: true };
  const workerFlags = ['--cpu', '--threads', '1', ...('insecure' in insecure ? ['--insecure'] : [])];

  test.for([
    [
      'torchrun',
      [
        { RANK: '0', WORLD_SIZE: '2', LOCAL_RANK: '0' },
        { RANK: '1', WORLD_SIZE: '2', LOCAL_RANK: '0' },
      ],
    ],
    ['srun', [0, 1].map((rank) => ({ SLURM_STEP_ID: '0', SLURM_PROCID: `${rank}`, SLURM_NTASKS: '2', SLURM_LOCALID: '0' }))],
  ] as const)(
    'started as by %s, the towers find the coordinator and each other, and end with the same weights',
    async ([, ranks], { stage }) => {
      const { coordinator: startScript, worker: workerScript } = stage.scripts;
      const coordinator = startOn(0, stage, startScript, ['start', ...stage.startArguments({ steps: 10, ...insecure })], {});
      expect(await coordinator.address()).toBe(`tcp://0.0.0.0:${port}`);
      const workers = ranks.map((environment, host) => startOn(host as 0 | 1, stage, workerScript, workerFlags, environment));
      expect(await coordinator.exit(), coordinator.output).toBe(0);
      for (const [tower, worker] of workers.entries()) {
        expect(await worker.exit(), worker.output).toBe(0);
        expect(worker.output).toContain(`assigned tower ${tower} of run`);
      }
      expect(stage.modelHash()).toBe(model);
    },
  );
});
