// scripts/cluster-launch.sh ssh, over a real sshd on the loopback interface: two names of one machine stand for two hosts.

import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { startSshServer, whyNoSshServer } from './sshServer.ts';
import type { SshServer } from './sshServer.ts';
import { titled } from './programs.ts';
import { endless, Stage, test, until } from './stage.ts';
import type { Command, Flags } from './stage.ts';

const reason = whyNoSshServer();
const soonMs = 8000;

describe.skipIf(reason !== undefined)(titled('cluster-launch.sh ssh', reason), () => {
  const serverStage = new Stage();
  let server: SshServer;
  let model = '';
  beforeAll(async () => {
    server = await startSshServer(serverStage);
    model = await serverStage.trainedModel({ steps: 10 });
  });
  afterAll(async () => {
    await server.stop();
    serverStage.clear();
  });

  function launch(stage: Stage, flags: Flags, options: readonly string[] = []): Command {
    const args = ['--hosts', 'nodeA:cpu,nodeB:cpu', '--threads', '1', '--bind', 'tcp://127.0.0.1:0', ...options];
    const words = ['ssh', '--ssh-config', server.clientConfig, ...args, '--', ...stage.startArguments(flags)];
    // What a launcher that is killed leaves behind (the sockets of its connections) goes away with the stage.
    return stage.start('env', [`TMPDIR=${stage.folder}`, stage.scripts.launcher, ...words], { ownGroup: true });
  }

  /** What ran at the far end of a connection: nothing must be left there either. */
  async function expectHostsEmpty(): Promise<void> {
    const far = (): unknown[] => serverStage.processes().filter(({ args }) => args[0] === 'node');
    await until('the end of all that ran on the hosts', () => far().length === 0, soonMs);
  }

  test('trains to the end with the same weights, marks every line with its host, and exits 0', async ({ stage }) => {
    const launcher = launch(stage, { steps: 10 });
    expect(await launcher.exit(), launcher.output).toBe(0);
    expect(launcher.lines.filter((line) => !/^(coordinator|nodeA tower 0|nodeB tower 1) \| /.test(line))).toEqual([
      expect.stringMatching(/^cluster-launch: checked nodeA, nodeB: crosstower \S+ there as here$/),
    ]);
    expect(launcher.output).toMatch(/^nodeB tower 1 \| worker: the run is done$/m);
    expect(stage.modelHash()).toBe(model);
    await expectHostsEmpty();
  });

  test('names everything that a host lacks before anything starts', async ({ stage }) => {
    const wrongFolder = launch(stage, { steps: 10 }, ['--folder', '/no/such/folder']);
    const wrongGpu = launch(stage, { steps: 10 }, ['--hosts', 'nodeA:cpu,nodeB:99']);
    const nobody = stage.start(stage.scripts.launcher, [
      ...['ssh', '--hosts', 'crosstower-nowhere.invalid:0,crosstower-nowhere.invalid:1', '--bind', 'tcp://127.0.0.1:0'],
      ...['--ssh-config', '/dev/null', '--', '--network', 'tiny'],
    ]);
    expect(await wrongFolder.exit(soonMs)).toBe(2);
    expect(wrongFolder.lines).toEqual([
      'cluster-launch: nodeA has no folder /no/such/folder: put the checkout there, or name it with --folder',
      'cluster-launch: nodeB has no folder /no/such/folder: put the checkout there, or name it with --folder',
    ]);
    expect(await wrongGpu.exit(soonMs)).toBe(2);
    expect(wrongGpu.output).toMatch(/^cluster-launch: nodeB has no GPU 99: nvidia-smi lists \d+ there\n$/);
    expect(await nobody.exit(soonMs)).toBe(3);
    expect(nobody.output).toMatch(/^cluster-launch: cannot log in to crosstower-nowhere\.invalid without a password: ssh: /);
  });

  test('ends with the words of the worker that failed, and nothing is left on any host', async ({ stage }) => {
    const launcher = launch(stage, { steps: endless, 'max-restarts': 0 });
    await stage.reached(3);
    await serverStage.signalRealWorker(1, 'SIGKILL');
    expect(await launcher.exit(soonMs)).toBe(3);
    expect(launcher.lastLine).toMatch(/^cluster-launch: nodeB tower 1 failed: worker: its process was killed by SIGKILL/);
    await expectHostsEmpty();
  });

  test('a launcher that is killed takes the workers on all hosts with it', async ({ stage }) => {
    const launcher = launch(stage, { steps: endless });
    await stage.reached(3);
    launcher.signal('SIGKILL');
    await launcher.exit();
    await expectHostsEmpty();
    // Nobody is there to close the shared connections: they end by themselves after five seconds.
    await stage.expectEmpty(soonMs);
  });

  test('with --keys, a worker has its key on its host for as long as it runs', async ({ stage }) => {
    const keys = stage.path('keys');
    execFileSync(process.execPath, [stage.scripts.coordinator, 'keygen', '--out', keys]);
    const launcher = launch(stage, { steps: endless }, ['--keys', keys]);
    await stage.reached(3);
    expect(keyFolders()).toHaveLength(2);
    launcher.signalGroup('SIGINT');
    expect(await launcher.exit(soonMs), launcher.output).toBe(75);
    expect(keyFolders()).toEqual([]);
    await expectHostsEmpty();
  });
});

function keyFolders(): string[] {
  return readdirSync(tmpdir()).filter((name) => name.startsWith('crosstower-key-'));
}
