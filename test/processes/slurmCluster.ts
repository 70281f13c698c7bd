// A Slurm cluster of two nodes on this machine, for one test: munged, slurmctld and two slurmd, all of it in the stage's folder, on ports of
// its own, as the current user. Two node names stand for two hosts.

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { hostname, userInfo } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findFile, programEnvironment } from './programs.ts';
import { freeAddress } from './stage.ts';
import type { Command, Stage } from './stage.ts';

const programs = {
  munged: findFile('usr/sbin/munged'),
  slurmctld: findFile('usr/sbin/slurmctld-wlm', 'usr/sbin/slurmctld'),
  slurmd: findFile('usr/sbin/slurmd-wlm', 'usr/sbin/slurmd'),
  slurmstepd: findFile('usr/sbin/slurmstepd-wlm', 'usr/sbin/slurmstepd'),
  sbatch: findFile('usr/bin/sbatch'),
  plugins: findFile('usr/lib/x86_64-linux-gnu/slurm-wlm/auth_munge.so'),
} as const;

/** Why there can be no cluster here; undefined where there can. */
export function whyNoSlurm(): string | undefined {
  const missing = Object.entries(programs).filter(([, path]) => path === undefined);
  return missing.length === 0 ? undefined : `no ${missing.map(([name]) => name).join(', ')} here; Debian: slurm-wlm, munge`;
}

const nodes = ['node1', 'node2'] as const;

export class SlurmCluster {
  readonly environment: Readonly<Record<string, string>>;
  readonly #daemons: Command[] = [];

  /** Starts the daemons and waits until both nodes are idle. */
  static async start(stage: Stage): Promise<SlurmCluster> {
    const ports: string[] = [];
    for (let i = 0; i < 1 + nodes.length; i++) ports.push((await freeAddress()).split(':').at(-1)!);
    const cluster = new SlurmCluster(stage, ports);
    await cluster.waitFor('two idle nodes', () => cluster.nodesInState('idle') === nodes.length);
    return cluster;
  }

  private constructor(stage: Stage, ports: readonly string[]) {
    const at = (name: string): string => stage.path(`slurm/${name}`);
    for (const name of ['state', 'run', ...nodes]) mkdirSync(at(name), { recursive: true, mode: 0o755 });
    writeFileSync(at('munge.key'), randomBytes(128), { mode: 0o600 });
    writeFileSync(at('slurm.conf'), configuration(at, ports));
    // Never used (proctrack/linuxproc), but slurmd looks for it at its start.
    writeFileSync(at('cgroup.conf'), 'CgroupPlugin=cgroup/v1\n');
    this.environment = { ...programEnvironment(), SLURM_CONF: at('slurm.conf') };
    const daemon = (program: string, ...args: string[]): void => {
      this.#daemons.push(stage.start('env', [...asWords(this.environment), program, ...args]));
    };
    const munged = ['key-file', 'socket', 'pid-file', 'log-file', 'seed-file'].map((name) =>
      name === 'key-file' ? `--key-file=${at('munge.key')}` : `--${name}=${at(`run/munge-${name}`)}`,
    );
    daemon(programs.munged!, '--foreground', '--force', '--num-threads=1', ...munged);
    daemon(programs.slurmctld!, '-D', '-i');
    for (const node of nodes) daemon(programs.slurmd!, '-D', '-N', node, '-d', programs.slurmstepd!);
  }

  /** Runs a command of Slurm and gives what it prints. */
  run(program: string, ...args: string[]): string {
    return execFileSync(program, args, { encoding: 'utf8', env: { ...process.env, ...this.environment } });
  }

  /** Asks Slurm five times a second: each answer costs a process. */
  async waitFor(what: string, isTrue: () => boolean, withinMs = 30_000): Promise<void> {
    const deadline = performance.now() + withinMs;
    while (!isTrue()) {
      if (performance.now() > deadline) throw new Error(`waited ${withinMs} ms for ${what}`);
      await sleep(200);
    }
  }

  nodesInState(state: string): number {
    try {
      return Number(this.run('sinfo', '--noheader', `--states=${state}`, '--format=%D').trim());
    } catch {
      // The controller does not answer yet.
      return 0;
    }
  }

  /** A field of `scontrol show job`. */
  jobField(job: string, field: string): string {
    return new RegExp(`\\b${field}=(\\S+)`).exec(this.run('scontrol', 'show', 'job', job))?.[1] ?? '';
  }

  async stop(): Promise<void> {
    for (const daemon of this.#daemons.reverse()) {
      daemon.signal('SIGTERM');
      await daemon.exit();
    }
  }
}

/** Environment variables as `env` takes them. */
export function asWords(environment: Readonly<Record<string, string>>): string[] {
  return Object.entries(environment).map(([name, value]) => `${name}=${value}`);
}

function configuration(at: (name: string) => string, [controllerPort, ...nodePorts]: readonly string[]): string {
  const host = hostname().split('.')[0]!;
  const user = userInfo().username;
  const lines = [
    'ClusterName=crosstower',
    `SlurmctldHost=${host}(127.0.0.1)`,
    `SlurmctldPort=${controllerPort!}`,
    `SlurmUser=${user}`,
    `SlurmdUser=${user}`,
    `AuthInfo=socket=${at('run/munge-socket')}`,
    `PluginDir=${dirname(programs.plugins!)}`,
    `StateSaveLocation=${at('state')}`,
    `SlurmdSpoolDir=${at('%n')}`,
    `SlurmctldPidFile=${at('run/slurmctld.pid')}`,
    `SlurmdPidFile=${at('run/slurmd-%n.pid')}`,
    'ProctrackType=proctrack/linuxproc',
    'TaskPlugin=task/none',
    'MpiDefault=none',
    'ReturnToService=2',
    'SelectType=select/cons_tres',
    'SelectTypeParameters=CR_Core',
    'SlurmdParameters=config_overrides', // Two cores a node, whatever the machine has.
    'SchedulerParameters=batch_sched_delay=0,sched_min_interval=0',
    ...nodes.map(
      (node, i) => `NodeName=${node} NodeHostname=${host} NodeAddr=127.0.0.1 Port=${nodePorts[i]!} CPUs=2 State=UNKNOWN`,
    ),
    'PartitionName=all Nodes=ALL Default=YES State=UP',
  ];
  return `${lines.join('\n')}\n`;
}
