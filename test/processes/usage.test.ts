// What is wrong with a command line, a config file, the machine or the data is said at once, in one sentence, with the exit code for it.

import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { describe, expect } from 'vitest';
import { test } from './stage.ts';
import type { Command, Flags, Stage } from './stage.ts';

/** Without TensorFlow a command says no within half a second; the machine may be busy. */
const soonMs = 10_000;

interface Refused {
  readonly command: Command;
  readonly exit: number | NodeJS.Signals;
}

/** Waits for the ends of commands that run side by side. */
function ends(commands: readonly Command[]): Promise<Refused[]> {
  return Promise.all(commands.map(async (command) => ({ command, exit: await command.exit(soonMs) })));
}

/** Each of these command lines ends with the code, and its last line, the only one on the subject, says this. */
async function expectRefusals(
  code: number,
  start: (flags: Flags) => Command,
  cases: readonly (readonly [Flags, RegExp])[],
): Promise<void> {
  const refused = await ends(cases.map(([flags]) => start(flags)));
  for (const [i, [flags, message]] of cases.entries()) {
    const { command, exit } = refused[i]!;
    expect.soft({ flags, exit, lastLine: command.lastLine }).toEqual({
      flags,
      exit: code,
      lastLine: expect.stringMatching(message) as unknown,
    });
    expect.soft(command.output).not.toMatch(/\n\s+at /);
  }
}

describe('exit code 2', () => {
  test('a flag of the coordinator that is unknown, lacks its value or has a wrong one is named', async ({ stage }) => {
    await expectRefusals(2, (flags) => stage.coordinator(flags), [
      [{ bogus: 1 }, /^coordinator: Unknown argument: bogus; see coordinator --help$/],
      [{ lr: 'fast' }, /^coordinator: flags: lr: /],
      [{ batch: 0 }, /^coordinator: flags: batch: /],
      [{ steps: 2.5 }, /^coordinator: flags: steps: /],
      [{ network: 'lenet' }, /^coordinator: .*network.*lenet.*alexnet/],
      [{ 'lr-steps': '1,x' }, /^coordinator: --lr-steps takes numbers/],
      [{ threads: 1.5, local: 'cpu' }, /^coordinator: --threads: /],
      [{ local: 'tpu' }, /^coordinator: .*local.*tpu/],
      [{ 'one-process': true }, /^coordinator: .*one-process -> local/],
      [{ bind: 'nowhere', 'run-dir': 'a' }, /^coordinator: nowhere: not an address; write tcp:/],
      [{ data: 'synthetic:64,1', 'run-dir': 'b' }, /^coordinator: synthetic:64,1: classes must be a number in 2\.\.10000/],
    ]);
    await expectRefusals(
      2,
      ({ flag }) => stage.start(process.execPath, [stage.scripts.coordinator, 'start', `--${String(flag)}`]),
      [
        [{ flag: 'lr' }, /^coordinator: .*lr; see coordinator --help$/],
        [{ flag: 'run-dir' }, /^coordinator: .*run-dir; see coordinator --help$/],
      ],
    );
  });

  test('a flag of the worker that is unknown, lacks its value or has a wrong one is named', async ({ stage }) => {
    await expectRefusals(2, (flags) => stage.worker(flags), [
      [{ bogus: 1 }, /^worker: Unknown argument: bogus; see worker --help$/],
      [{ tower: 2 }, /^worker: .*tower.*2.*both/],
      [{ threads: 0 }, /^worker: --threads takes a whole number from 1, not 0$/],
      [{ 'join-timeout': 'soon' }, /^worker: --join-timeout takes seconds.* not NaN$/],
      [{ 'join-timeout': -1 }, /^worker: --join-timeout takes seconds.* not -1$/],
      [{ cpu: undefined, threads: undefined }, /^worker: say what to compute on: --gpu N, or --cpu$/],
      [{ gpu: 0 }, /^worker: .*gpu and cpu are mutually exclusive/],
    ]);
  });

  test('a GPU that is not there is named, with those that are', async ({ stage }) => {
    await expectRefusals(2, (flags) => stage.worker({ cpu: undefined, threads: undefined, ...flags }), [
      [{ gpu: 1.5 }, /^worker: --gpu takes the number of a GPU, not 1\.5$/],
      // No machine that tests run on has a hundred.
      [{ gpu: 99 }, /^worker: --gpu 99: there is no such GPU \(.+\); --cpu trains without one$/],
    ]);
  });

  test('the fields of a config file that are unknown or of a wrong type are named, and so is the file', async ({ stage }) => {
    const file = (name: string, text: string): Flags => {
      writeFileSync(stage.path(name), text);
      return { config: name, network: undefined, batch: undefined };
    };
    await expectRefusals(2, (flags) => stage.coordinator(flags), [
      [file('unknown.yaml', 'network: tiny\nbatchSize: 16\n'), /^coordinator: unknown\.yaml and flags: .*"batchSize"/],
      [file('type.yaml', 'network: tiny\nbatch: many\n'), /^coordinator: type\.yaml and flags: batch: .*expected number/],
      [file('range.json', '{"network":"tiny","dropout":1.5}'), /^coordinator: range\.json and flags: dropout: /],
      [file('list.yaml', '- network\n- tiny\n'), /^coordinator: list\.yaml holds no fields/],
      [{ config: 'none.yaml' }, /^coordinator: none\.yaml could not be read: ENOENT/],
    ]);
    const broken = stage.coordinator(file('broken.yaml', 'network: [tiny\n'));
    expect(await broken.exit(soonMs)).toBe(2);
    expect(broken.output).toContain('coordinator: broken.yaml could not be read');
    expect(existsSync(stage.path('run'))).toBe(false);
  });

  test('a run folder that is in use stays untouched', async ({ stage }) => {
    mkdirSync(stage.path('run'));
    writeFileSync(stage.path('run/metrics.jsonl'), 'of another run\n');
    await expectRefusals(2, (flags) => stage.coordinator(flags), [
      [
        {},
        /^coordinator: run already holds a run, and a run is never written over: choose another --run-dir, or go on with --resume run$/,
      ],
    ]);
    expect(readFileSync(stage.path('run/metrics.jsonl'), 'utf8')).toBe('of another run\n');
    expect(filesOf(stage, 'run')).toEqual(['metrics.jsonl']);
  });
});

describe('exit code 5', () => {
  test('a data folder that is missing is named, also where workers have been started already', async ({ stage }) => {
    await expectRefusals(5, (flags) => stage.coordinator({ data: stage.path('pictures'), ...flags }), [
      [{ 'run-dir': 'a' }, /^coordinator: there is no data .*pictures: give a folder of pictures/],
      [{ 'run-dir': 'b', local: 'cpu' }, /^coordinator: there is no data .*pictures: give a folder of pictures/],
    ]);
  });

  test('a data folder with a file missing names the file', async ({ stage }) => {
    mkdirSync(stage.path('pictures'));
    await expectRefusals(5, (flags) => stage.coordinator(flags), [
      [{ data: stage.path('pictures') }, /^coordinator: .*pictures.*train-images-idx3-ubyte/],
    ]);
  });
});

test('exit code 6: a run folder that cannot be made is named', async ({ stage }) => {
  writeFileSync(stage.path('file'), '');
  await expectRefusals(6, (flags) => stage.coordinator(flags), [
    [{ 'run-dir': 'file/run' }, /^coordinator: the run's folder file\/run could not be made: /],
  ]);
});

test('--help of both commands teaches with examples and exits 0', async ({ stage }) => {
  const commands = [
    stage.start(process.execPath, [stage.scripts.coordinator, 'start', '--help']),
    stage.start(process.execPath, [stage.scripts.worker, '--help']),
  ];
  for (const { command, exit } of await ends(commands)) {
    expect(exit).toBe(0);
    expect(command.output).toMatch(/Examples:/);
    expect(command.output).toMatch(/Exit codes:/);
  }
});

/** All files below a folder, however deep. */
function filesOf(stage: Stage, folder: string): string[] {
  return readdirSync(stage.path(folder), { recursive: true, encoding: 'utf8' }).filter((name) => name !== 'logs');
}
