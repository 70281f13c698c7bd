// The parts of the launcher that decide: who is blamed, what its command line means.

import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parseHosts, problemsOf } from '../../scripts/launch/host.mjs';
import { checkKeyChoice, chooseNames } from '../../scripts/launch/keys.mjs';
import { deviceFlags } from '../../scripts/launch/local.mjs';
import { pairCount, readOptions, workerName } from '../../scripts/launch/options.mjs';
import { blame } from '../../scripts/launch/party.mjs';
import { batchScript } from '../../scripts/launch/slurm.mjs';

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

describe('the hosts', () => {
  test('are named with what each computes on', () => {
    expect(parseHosts('nodeA:0,me@nodeB:cpu', 2)).toEqual([
      { host: 'nodeA', device: '0' },
      { host: 'me@nodeB', device: 'cpu' },
    ]);
  });

  test.each([
    [undefined, 2],
    ['nodeA:0', 2],
    ['nodeA:0,nodeB', 2],
    ['nodeA:0,nodeB:one', 2],
    ['nodeA:0,-oProxyCommand=x:0', 2], // Not an option for ssh.
    ['nodeA:0,nodeB:0', 4],
  ])('%j for %i workers is refused', (text, workers) => {
    expect(() => parseHosts(text, workers)).toThrow(`--hosts is ${workers} hosts with a GPU number or cpu each`);
  });

  const good = 'folder=yes\nnode=v22.12.0\ncrosstower=1.0.0\ngpus=2\n';
  test.each([
    [good, ['0', '1'], []],
    [good, ['cpu', 'cpu'], []],
    ['', ['cpu'], [/^nodeA has no folder \/opt\/crosstower/]],
    [good.replace('v22.12.0', ''), ['cpu'], [/^nodeA has no node on the PATH of a command over ssh/]],
    [good.replace('v22', 'v23'), ['cpu'], [/^nodeA has Node 23.12.0, and 20 or 22 is needed$/]],
    [good.replace('1.0.0', ''), ['cpu'], [/^nodeA: the commands are not built in \/opt\/crosstower: npm run setup$/]],
    [good.replace('1.0.0', '0.9.0'), ['cpu'], [/^nodeA has crosstower 0.9.0, and this machine 1.0.0/]],
    [good, ['1', '2'], [/^nodeA has no GPU 2: nvidia-smi lists 2 there$/]],
    [good.replace('1.0.0', '0.9.0'), ['7'], [/0.9.0/, /no GPU 7/]],
  ])('that say %j, for %j: %j', (said, devices, sentences) => {
    const problems = problemsOf({ host: 'nodeA', devices, folder: '/opt/crosstower', version: '1.0.0', said });
    expect(problems).toEqual(sentences.map((sentence) => expect.stringMatching(sentence)));
  });
});

describe('who may join', () => {
  test.each([
    [{}, '127.0.0.1'],
    [{}, '::1'],
    [{ keys: 'keys' }, '10.0.0.5'],
    [{ insecure: true }, 'node1'],
  ])('%j at %s is settled', (choice, host) => {
    expect(() => checkKeyChoice(choice, host)).not.toThrow();
  });

  test.each([
    [{}, '10.0.0.5', /at 10\.0\.0\.5: give --keys DIR .* or --insecure/],
    [{}, undefined, /over the network: give --keys DIR/],
    [{}, '127.evil.example', /give --keys DIR/],
    [{ keys: 'keys', insecure: true }, '127.0.0.1', /exclude each other/],
  ])('%j at %s is not', (choice, host, message) => {
    expect(() => checkKeyChoice(choice, host)).toThrow(message);
  });

  test.each([
    ['# KEY NAME [TOWER]\nk tower0 0\nk tower1 1\n', 2, ['tower0', 'tower1']],
    ['k b 1\nk a 0\n', 2, ['a', 'b']],
    ['k any\nk b 0\n', 2, ['b', 'any']],
    ['k a\nk b\nk c\nk d\n', 4, ['a', 'b', 'c', 'd']],
    ['k a 0\nk b 0\n', 2, undefined],
    ['k a\n', 2, undefined],
  ])('of the list %j, %i workers take %j', (list, workers, names) => {
    expect(chooseNames(list, workers)).toEqual(names);
  });
});

describe('the batch script', () => {
  const values = { time: '4:00:00', 'save-before': '300', sbatch: [], insecure: true };

  test('holds the options as directives, and flags with blanks and quotes in one piece', () => {
    const script = batchScript({ ...values, nodes: '2', sbatch: ['--partition=gpu'] }, ['--data', "it's here", '--replicas=2']);
    expect(script).toMatch(/^#SBATCH --ntasks=4$/m);
    expect(script).toMatch(/^#SBATCH --nodes=2$/m);
    expect(script).toMatch(/^#SBATCH --gpus-per-task=1$/m);
    expect(script).toMatch(/^#SBATCH --signal=B:USR1@300$/m);
    expect(script).toMatch(/^#SBATCH --partition=gpu$/m);
    expect(script).toContain(
      `start --resume auto --run-dir "runs/slurm-$SLURM_JOB_ID" --insecure --data 'it'\\''s here' --replicas=2 &`,
    );
    execFileSync('bash', ['-n'], { input: script }); // Throws where bash cannot read it.
  });

  test('gives each task the key of its place', () => {
    const keys = mkdtempSync(join(tmpdir(), 'crosstower-keys-'));
    try {
      writeFileSync(join(keys, 'allowed-workers'), 'k b 1\nk a 0\n');
      const script = batchScript({ ...values, insecure: undefined, keys, cpu: true }, []);
      const [, words] = /worker (--cpu .*--key .*); do/.exec(script);
      const task = words.replaceAll("'\\''", "'");
      const chosen = [0, 1].map((rank) =>
        execFileSync('bash', ['-c', `echo ${task}`], {
          encoding: 'utf8',
          env: { ...process.env, SLURM_PROCID: `${rank}` },
        }).trim(),
      );
      const expected = (name) => `--cpu --threads 1 --key ${keys}/${name}.key --coordinator-key ${keys}/coordinator.pub`;
      expect(chosen).toEqual([expected('a'), expected('b')]);
    } finally {
      rmSync(keys, { recursive: true });
    }
  });

  test.each([
    [{ insecure: undefined }, [], /over the network: give --keys DIR/],
    [{}, ['--resume', 'runs/a'], /--resume is the launcher's to choose/],
    [{ time: 'tomorrow' }, [], /--time is a time limit such as/],
    [{ sbatch: ['--comment=a\nb'] }, [], /--sbatch takes an option of sbatch/],
    [{ 'save-before': 'soon' }, [], /--save-before is a number of seconds/],
  ])('%j, %j: refused', (more, flags, message) => {
    expect(() => batchScript({ ...values, ...more }, flags)).toThrow(message);
  });

  test('on one node needs no keys', () => {
    expect(batchScript({ ...values, insecure: undefined, nodes: '1' }, [])).toMatch(/^export MASTER_ADDR=127\.0\.0\.1$/m);
  });
});

describe('a supervisor', () => {
  const supervisor = fileURLToPath(new URL('../../scripts/launch/supervise.mjs', import.meta.url));

  /** Starts one, and gives its process and what it says up to its end. */
  function start(...args) {
    const child = spawn(process.execPath, [supervisor, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text) => (output += text));
    const ended = new Promise((resolve) => child.once('close', (code) => resolve({ code, output })));
    return { child, ended, said: new Promise((resolve) => child.stdout.once('data', resolve)) };
  }

  test('passes the exit code on', async () => {
    expect(await start('sh', '-c', 'exit 75').ended).toEqual({ code: 75, output: '' });
    expect(await start('sh', '-c', 'kill -KILL $$').ended).toEqual({ code: 137, output: '' });
  });

  test.each([
    ['passes a signal on by its name', (child) => child.stdin.write('SIGUSR1\n'), 'USR1'],
    ['tells its program to stop when its input ends', (child) => child.stdin.end(), 'TERM'],
  ])('%s', async (_, act, signal) => {
    const script = 'trap "echo USR1; exit 75" USR1; trap "echo TERM; exit 75" TERM; echo ready; while :; do sleep 0.02; done';
    const { child, ended, said } = start('sh', '-c', script);
    await said;
    act(child);
    expect(await ended).toEqual({ code: 75, output: `ready\n${signal}\n` });
  });

  test('hands a secret key over in a file and a folder for its owner alone, which are gone afterwards', async () => {
    const script = 'stat --format=%a "$2" "$(dirname "$2")"; cat "$2"; echo "$1 $2"';
    const { child, ended } = start('--secret-key', 'sh', '-c', script, 'sh');
    child.stdin.write('secret\n');
    const { code, output } = await ended;
    expect(code).toBe(0);
    const [fileMode, folderMode, content, words] = output.trim().split('\n');
    expect([fileMode, folderMode, content]).toEqual(['600', '700', 'secret']);
    const [flag, file] = words.split(' ');
    expect(flag).toBe('--key');
    expect(existsSync(dirname(file))).toBe(false);
  });
});
