// Keys, with the real commands: made by `keygen`, used by a run, and what happens to whoever has none or the wrong ones.

import { chmodSync, copyFileSync, existsSync, readFileSync, readdirSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { describe, expect } from 'vitest';
import { endless, freeAddress, test } from './stage.ts';
import type { Command, Flags, Stage } from './stage.ts';

/** How soon a worker that will never be let in must have ended, with the time that a process takes to start on a busy machine. */
const refusedMs = 10_000 + 5000;
/** Said before TensorFlow is loaded; the machine may be busy. */
const soonMs = 10_000;

async function keygen(stage: Stage, ...args: string[]): Promise<Command> {
  const command = stage.start(process.execPath, [stage.scripts.coordinator, 'keygen', ...args]);
  await command.exit();
  return command;
}

function keyFlags(stage: Stage, name: string, folder = 'keys', coordinator = folder): Flags {
  return { key: stage.path(`${folder}/${name}.key`), 'coordinator-key': stage.path(`${coordinator}/coordinator.pub`) };
}

/** As `keygen` has said. */
function fingerprint(made: Command, name: string): string {
  return new RegExp(`^ +${name} +(sha256:[0-9a-f]{16})$`, 'm').exec(made.output)![1]!;
}

describe('keygen', () => {
  test('makes keys that only their owner can read, shows none of them, and overwrites nothing unless forced', async ({
    stage,
  }) => {
    const made = await keygen(stage, '--out', 'keys', '--workers', 'a,b:1');
    expect(await made.exit()).toBe(0);
    const files = readdirSync(stage.path('keys')).sort();
    expect(files).toEqual(['a.key', 'a.pub', 'allowed-workers', 'b.key', 'b.pub', 'coordinator.key', 'coordinator.pub']);
    const read = (name: string): string => readFileSync(stage.path(`keys/${name}`), 'utf8');
    for (const name of files.filter((file) => file.endsWith('.key'))) {
      expect(statSync(stage.path(`keys/${name}`)).mode & 0o777).toBe(0o600);
      expect(made.output).not.toContain(read(name).trim());
    }
    expect(read('allowed-workers')).toBe(`# KEY NAME [TOWER]\n${read('a.pub').trim()} a\n${read('b.pub').trim()} b 1\n`);

    const before = read('coordinator.key');
    const again = await keygen(stage, '--out', 'keys', '--workers', 'c');
    expect(await again.exit()).toBe(2);
    expect(again.lastLine).toMatch(/^coordinator: keys\/coordinator\.key is there already: .*--force/);
    expect(existsSync(stage.path('keys/c.key'))).toBe(false);
    chmodSync(stage.path('keys/coordinator.key'), 0o644);
    expect(await (await keygen(stage, '--out', 'keys', '--force')).exit()).toBe(0);
    expect(read('coordinator.key')).not.toBe(before);
    expect(statSync(stage.path('keys/coordinator.key')).mode & 0o777).toBe(0o600);
  });

  test('takes names of workers only', async ({ stage }) => {
    const lists = ['', 'a,,b', 'a/b', 'a,a', '../x', 'a:2', 'coordinator', '.hidden'];
    const refused = await Promise.all(lists.map((workers) => keygen(stage, `--workers=${workers}`)));
    for (const command of refused) {
      expect(await command.exit()).toBe(2);
      expect(command.lastLine).toMatch(/^coordinator: --workers/);
    }
    expect(readdirSync(stage.folder)).toEqual([]);
  });
});

describe('a run with keys', () => {
  test('ends with the very bytes of one without, and refuses all who have none or others', async ({ stage }) => {
    const steps = 60;
    const plain = await stage.trainedModel({ steps });
    const made = await keygen(stage);
    const other = await keygen(stage, '--out', 'other');
    const coordinator = stage.coordinator({ steps, keys: 'keys' });
    const address = await coordinator.address();
    const visit = (flags: Flags): Command => stage.worker({ coordinator: address, ...flags });
    const strangers: readonly (readonly [Command, RegExp, RegExp])[] = [
      [
        visit(keyFlags(stage, 'tower0', 'other', 'keys')),
        new RegExp(`does not know the key ${fingerprint(other, 'tower0')}`),
        new RegExp(`its key ${fingerprint(other, 'tower0')} is not among the allowed ones`),
      ],
      [
        visit(keyFlags(stage, 'tower0', 'keys', 'other')),
        new RegExp(`does not hold the key ${fingerprint(other, 'coordinator')}`),
        new RegExp(`expects another coordinator than this one, whose key is ${fingerprint(made, 'coordinator')}`),
      ],
      [visit({}), /lets nobody in without a key: give --key/, /it does not encrypt, and this coordinator does/],
      [
        visit({ ...keyFlags(stage, 'tower0'), tower: 1 }),
        new RegExp(`the key tower0 \\(${fingerprint(made, 'tower0')}\\) is for tower 0, not for tower 1`),
        /turned worker-[0-9a-f]+ away: the key tower0/,
      ],
    ];
    for (const [command, says, logged] of strangers) {
      expect(await command.exit(refusedMs), command.output).toBe(4);
      expect(command.lastLine).toMatch(says);
      expect(coordinator.output).toMatch(logged);
    }
    const workers = [0, 1].map((tower) => visit(keyFlags(stage, `tower${String(tower)}`)));
    expect(await coordinator.exit(), coordinator.output).toBe(0);
    expect(await Promise.all(workers.map((worker) => worker.exit()))).toEqual([0, 0]);
    expect(stage.modelHash()).toBe(plain);
    expect(stage.steps()).toHaveLength(steps);
  });

  test('refuses a second worker with the key of one that is there, which does not notice', async ({ stage }) => {
    await keygen(stage);
    const coordinator = stage.coordinator({ steps: endless, keys: 'keys' });
    const address = await coordinator.address();
    const workers = [0, 1].map((tower) => stage.worker({ coordinator: address, ...keyFlags(stage, `tower${String(tower)}`) }));
    await stage.reached(3);
    const second = stage.worker({ coordinator: address, ...keyFlags(stage, 'tower1') });
    expect(await second.exit(refusedMs)).toBe(4);
    expect(second.lastLine).toMatch(/^worker: tower 1 \(.+, pid \d+\) is there already$/);
    await stage.reached(stage.steps().length + 5);
    coordinator.signal('SIGINT');
    expect(await coordinator.exit()).toBe(75);
    expect(await Promise.all(workers.map((worker) => worker.exit()))).toEqual([75, 75]);
  });

  test('is not joined by workers with keys if the coordinator has none', async ({ stage }) => {
    const made = await keygen(stage);
    const coordinator = stage.coordinator();
    const worker = stage.worker({ coordinator: await coordinator.address(), ...keyFlags(stage, 'tower0') });
    expect(await worker.exit(refusedMs)).toBe(4);
    expect(worker.lastLine).toContain(`does not encrypt, and this side does, with the key ${fingerprint(made, 'tower0')}`);
    coordinator.signal('SIGINT');
    expect(await coordinator.exit()).toBe(75);
  });
});

describe('without keys', () => {
  test('nothing goes beyond this machine, unless somebody says --insecure and is told what that means', async ({ stage }) => {
    const bind = 'tcp://0.0.0.0:0';
    const commands: readonly (readonly [Command, RegExp])[] = [
      [
        stage.coordinator({ bind }),
        /^coordinator: --bind tcp:\/\/0\.0\.0\.0:0 lets in whoever can connect: .*keygen.*--insecure$/,
      ],
      [stage.coordinator({ bind: 'tcp://*:0' }), /^coordinator: --bind tcp:\/\/\*:0 lets in/],
      [stage.coordinator({ bind: 'tcp://[::]:0' }), /^coordinator: --bind tcp:\/\/\[::\]:0 lets in/],
      [stage.coordinator({ bind, local: 'cpu' }), /lets in whoever can connect/],
      [
        stage.worker({ coordinator: 'tcp://192.0.2.1:5570' }),
        /^worker: tcp:\/\/192\.0\.2\.1:5570 is another machine: give --key/,
      ],
    ];
    for (const [command, says] of commands) {
      expect(await command.exit(soonMs), command.output).toBe(2);
      expect(command.lastLine).toMatch(says);
    }
    expect(existsSync(stage.path('run'))).toBe(false);

    const coordinator = stage.coordinator({ bind, insecure: true, steps: 2 });
    const { port } = new URL((await coordinator.address()).replace('tcp:', 'http:'));
    const reachable = `tcp://127.0.0.1:${port}`;
    expect(coordinator.output.match(/WARNING: --insecure: nothing is encrypted/g)).toHaveLength(1);
    const workers = [0, 1].map((tower) =>
      stage.worker({ coordinator: reachable, tower, insecure: true, 'peer-address': 'tcp://127.0.0.1:0' }),
    );
    expect(await coordinator.exit()).toBe(0);
    for (const worker of workers) {
      expect(await worker.exit()).toBe(0);
      expect(worker.output.match(/WARNING: --insecure: nothing is encrypted/g)).toHaveLength(1);
    }
  });

  test('a run that starts its workers itself listens where nobody else can come, and leaves nothing there', async ({ stage }) => {
    const coordinator = stage.coordinator({ local: 'cpu', threads: 1, steps: endless });
    const path = (await coordinator.address()).replace('ipc://', '');
    expect(statSync(dirname(path)).mode & 0o777).toBe(0o700);
    await stage.reached(3);
    const processes = stage.processes();
    expect(processes.filter(({ isRealWorker }) => isRealWorker)).toHaveLength(2);
    expect(processes.flatMap(({ pid }) => listeningPorts(pid))).toEqual([]);
    coordinator.signal('SIGINT');
    expect(await coordinator.exit(), coordinator.output).toBe(75);
    expect(existsSync(dirname(path))).toBe(false);
  });

  test('tower 0 listens for tower 1 on its own machine only', async ({ stage }) => {
    const coordinator = stage.coordinator();
    const worker = stage.worker({ coordinator: await coordinator.address(), tower: 0, 'peer-address': 'tcp://0.0.0.0:0' });
    expect(await worker.exit()).toBe(2);
    expect(worker.lastLine).toMatch(
      /^worker: a tower would listen at tcp:\/\/0\.0\.0\.0:0 for whoever can connect: .*--insecure$/,
    );
    expect(await coordinator.exit()).toBe(2);
  });
});

test('a file of keys that is missing, open to others or damaged is named before anything listens, and shows no key', async ({
  stage,
}) => {
  await keygen(stage);
  const secret = readFileSync(stage.path('keys/tower0.key'), 'utf8').trim();
  const copy = (from: string, to: string, mode = 0o600): string => {
    copyFileSync(stage.path(from), stage.path(to));
    chmodSync(stage.path(to), mode);
    return stage.path(to);
  };
  const open = copy('keys/tower0.key', 'open.key', 0o644);
  writeFileSync(stage.path('bad.key'), `${secret.slice(1)}"\n`, { mode: 0o600 });
  await keygen(stage, '--out', 'bare');
  chmodSync(stage.path('bare/coordinator.key'), 0o640);
  // Nobody listens at an address that is never asked.
  const address = await freeAddress();
  const key = (path: string): Flags => ({
    coordinator: address,
    key: path,
    'coordinator-key': stage.path('keys/coordinator.pub'),
  });
  const good = stage.path('keys/tower0.key');
  const commands: readonly (readonly [Command, RegExp])[] = [
    [stage.worker(key(open)), /open\.key has mode 0644.*chmod 600/],
    [stage.worker(key(stage.path('bad.key'))), /bad\.key holds no secret key/],
    [stage.worker(key(stage.path('none.key'))), /none\.key could not be read \(ENOENT\)/],
    [stage.worker({ ...key(good), 'coordinator-key': 'none.pub' }), /none\.pub could not be read \(ENOENT\)/],
    [stage.worker({ coordinator: address, key: good }), /coordinator-key/],
    [stage.worker({ ...key(good), insecure: true }), /--key and --insecure contradict each other/],
    [stage.coordinator({ keys: 'nowhere' }), /nowhere\/coordinator\.key could not be read \(ENOENT\)/],
    [stage.coordinator({ keys: 'bare' }), /bare\/coordinator\.key has mode 0640/],
    [stage.coordinator({ keys: 'keys', insecure: true }), /--keys and --insecure contradict each other/],
    [stage.coordinator({ keys: 'keys', local: 'cpu' }), /--local needs no keys/],
  ];
  for (const [command, says] of commands) {
    expect(await command.exit(soonMs), command.output).toBe(2);
    expect(command.lastLine).toMatch(says);
    expect(command.output).not.toContain(secret.slice(1, 12));
  }
  expect(existsSync(stage.path('run'))).toBe(false);
});

/** The TCP ports that a process listens at; one of this test's own commands. */
function listeningPorts(pid: number): number[] {
  const isListening = '0A';
  const sockets = readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
    } catch {
      return []; // It was closed meanwhile.
    }
  });
  return ['tcp', 'tcp6'].flatMap((table) =>
    readFileSync(`/proc/${pid}/net/${table}`, 'utf8')
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .filter(([, , , state, , , , , , inode]) => state === isListening && inode !== undefined && sockets.includes(inode))
      .map(([, local]) => parseInt(local?.split(':')[1] ?? '', 16)),
  );
}
