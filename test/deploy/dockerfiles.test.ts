// The container files, by rules of our own: who runs, under what, and what must not be in an image. None is built here.

import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { packageRoot } from '../../src/spec/packageRoot.ts';

interface Instruction {
  readonly name: string;
  readonly text: string;
}

function readDockerfile(name: string): Instruction[] {
  const lines = readFileSync(new URL(`deploy/${name}`, packageRoot()), 'utf8')
    .replace(/^#.*\n/gm, '')
    .replace(/\\\n/g, ' ')
    .split('\n');
  return lines
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [, instruction, text] = /^([A-Z]+) +(.*)$/.exec(line) ?? [];
      if (instruction === undefined || text === undefined) throw new Error(`${name}: not an instruction: ${line}`);
      return { name: instruction, text: text.replace(/ +/g, ' ').trim() };
    });
}

describe.each(['Dockerfile.cpu', 'Dockerfile.cuda'])('%s', (name) => {
  const instructions = readDockerfile(name);
  const lastFrom = instructions.findLastIndex((instruction) => instruction.name === 'FROM');
  const image = instructions.slice(lastFrom);
  const textsOf = (list: readonly Instruction[], wanted: string): string[] =>
    list.filter((instruction) => instruction.name === wanted).map(({ text }) => text);

  test('runs as a user by number that is not root, under an init process, and stops by SIGTERM', () => {
    expect(textsOf(image, 'USER')).toEqual(['10001']);
    expect(textsOf(image, 'ENTRYPOINT')).toEqual(['["tini", "--"]']);
    expect(textsOf(image, 'STOPSIGNAL')).toEqual(['SIGTERM']);
    // Nothing is done as root after the user has been set.
    const atUser = image.findIndex((instruction) => instruction.name === 'USER');
    expect(textsOf(image.slice(atUser), 'RUN')).toEqual([]);
  });

  test('begins with images of a stated version, and Node of a version that the package takes', () => {
    for (const from of textsOf(instructions, 'FROM')) expect(from).toMatch(/^node:(20|22)-[a-z-]+( AS \w+)?$/);
  });

  test('installs by the lock file, through the set-up, in a layer that sources do not touch', () => {
    const build = instructions.slice(0, lastFrom).map(({ name: kind, text }) => `${kind} ${text}`);
    const packages = build.indexOf('RUN npm run setup -- --no-build');
    const sources = build.indexOf('COPY . .');
    expect(packages).toBeGreaterThan(build.findIndex((line) => line.startsWith('COPY package.json package-lock.json')));
    expect(sources).toBeGreaterThan(packages);
    expect(build.slice(sources)).toContain('RUN npm run setup');
  });

  test('copies what is there, and downloads nothing else', () => {
    for (const copy of textsOf(instructions, 'COPY').filter((text) => !text.startsWith('--from='))) {
      for (const path of copy.split(' ').slice(0, -1)) expect(existsSync(new URL(path, packageRoot())), path).toBe(true);
    }
    expect(textsOf(instructions, 'ADD')).toEqual([]);
    for (const run of textsOf(instructions, 'RUN')) {
      expect(run).not.toMatch(/\b(curl|wget|sudo|chmod 777)\b/);
      if (run.includes('apt-get install')) expect(run).toMatch(/--no-install-recommends .* && rm -rf \/var\/lib\/apt\/lists\/\*/);
    }
  });

  test('holds no secret, and no key of the working tree can slip in', () => {
    expect(textsOf(instructions, 'ARG')).toEqual([]);
    for (const variable of textsOf(instructions, 'ENV')) expect(variable).not.toMatch(/key|secret|token|password/i);
    const ignored = readFileSync(new URL('.dockerignore', packageRoot()), 'utf8').split('\n');
    expect(ignored).toEqual(expect.arrayContaining(['.git', 'node_modules', 'runs', 'keys', '**/*.key']));
  });
});

test('the two differ in the device alone', () => {
  const texts = ['Dockerfile.cpu', 'Dockerfile.cuda'].map((name) =>
    readDockerfile(name).map(({ name: kind, text }) => `${kind} ${text}`),
  );
  const [cpu, cuda] = texts as [string[], string[]];
  expect(cuda.filter((line) => !cpu.includes(line))).toEqual([
    'ENV CROSSTOWER_CACHE=/opt/crosstower-cache CROSSTOWER_DEVICE=gpu',
    'ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility',
  ]);
  expect(cpu.filter((line) => !cuda.includes(line))).toEqual([
    'ENV CROSSTOWER_CACHE=/opt/crosstower-cache CROSSTOWER_DEVICE=cpu',
  ]);
});
