// scripts/cluster-launch.sh slurm, on a real Slurm with two nodes: saved before the time limit, queued again, and gone on with.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { titled } from './programs.ts';
import { SlurmCluster, asWords, whyNoSlurm } from './slurmCluster.ts';
import { Stage, endless, test } from './stage.ts';
import type { Flags } from './stage.ts';

const reason = whyNoSlurm();

describe.skipIf(reason !== undefined)(titled('cluster-launch.sh slurm', reason), () => {
  const clusterStage = new Stage();
  let cluster: SlurmCluster;
  beforeAll(async () => {
    cluster = await SlurmCluster.start(clusterStage);
  });
  afterAll(async () => {
    await cluster.stop();
    clusterStage.clear();
  });

  /** Submits a run on both nodes, waits for its first steps, and gives the job's number. */
  async function submit(stage: Stage, flags: Flags): Promise<string> {
    const launcher = stage.start('env', [
      ...asWords(cluster.environment),
      ...[stage.scripts.launcher, 'slurm', '--cpu', '--threads', '1', '--nodes', '2', '--address', '127.0.0.1'],
      ...['--time', '10', '--sbatch', `--output=${stage.path('job.log')}`, '--', ...stage.startArguments(flags)],
    ]);
    const [, job] = await launcher.said(/^Submitted batch job (\d+)$/m);
    await stage.reached(5);
    return job!;
  }

  async function reachedState(stage: Stage, job: string, state: string): Promise<void> {
    const isReached = (): boolean => cluster.jobField(job, 'JobState') === state;
    await cluster.waitFor(`job ${job} to be ${state}`, isReached).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${cluster.run('scontrol', 'show', 'job', job)}\n${log(stage)}`, { cause: error });
    });
  }

  function log(stage: Stage): string {
    return readFileSync(stage.path('job.log'), 'utf8');
  }

  test('a job that is saved before its time limit is queued again and ends with the weights of one that was not', async ({
    stage,
  }) => {
    const flags = { steps: 200 };
    const job = await submit(stage, flags);
    expect(cluster.jobField(job, 'NodeList')).toBe('node[1-2]');
    // The signal that Slurm sends so many seconds before the limit, which is a minute at least.
    cluster.run('scancel', '--batch', '--signal=USR1', job);
    await reachedState(stage, job, 'PENDING');
    expect(log(stage)).toContain('the coordinator ended with exit code 75');
    expect(stage.steps().length).toBeLessThan(flags.steps);

    // Slurm lets a job that was queued again rest for two minutes, and sets these once its old tasks are gone. Its nodes count in whole
    // seconds: a start in the second in which the old job's credential was revoked is refused.
    await sleep(1500);
    await cluster.waitFor('the job to start again', () => {
      if (cluster.jobField(job, 'JobState') !== 'PENDING') return true;
      try {
        cluster.run('scontrol', 'update', `JobId=${job}`, 'StartTime=now');
      } catch {
        // It has been started since it was asked for its state.
      }
      return false;
    });
    await reachedState(stage, job, 'COMPLETED');
    expect(cluster.jobField(job, 'Restarts')).toBe('1');
    expect(log(stage)).toMatch(/^0: worker: assigned tower 0 of run/m);
    expect(log(stage)).toMatch(/^1: worker: assigned tower 1 of run/m);
    expect(stage.steps()).toHaveLength(flags.steps);
    const model = stage.modelHash();
    expect(await stage.trainedModel(flags)).toBe(model);
  });

  test('a job that is told to stop saves, and is not queued again', async ({ stage }) => {
    const job = await submit(stage, { steps: endless });
    cluster.run('scancel', '--batch', '--signal=TERM', job);
    await reachedState(stage, job, 'FAILED');
    expect(cluster.jobField(job, 'ExitCode')).toBe('75:0');
    expect(cluster.jobField(job, 'Restarts')).toBe('0');
    expect(stage.modelHash()).toMatch(/^[0-9a-f]{64}$/);
  });
});
