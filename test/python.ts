// Python with numpy, safetensors and onnxruntime, as `npm test` fetches them (scripts/setup/testTools.mjs): other people's readers of our files.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { packageRoot } from '../src/spec/packageRoot.ts';

/** Runs a Python program with arguments and gives what it prints. */
export type Python = (program: string, ...args: readonly string[]) => string;

/** Python, or the test is skipped with the reason. */
export function pythonOr(skip: (reason: string) => never): Python {
  const environment = JSON.parse(readFileSync(new URL('node_modules/.crosstower/environment.json', packageRoot()), 'utf8')) as {
    testTools?: string | null;
  };
  const { testTools } = environment;
  if (testTools === null || testTools === undefined) skip("Python's readers are not there: node scripts/setup.mjs --test-tools");
  return (program, ...args) =>
    execFileSync('python3', ['-c', program, ...args], {
      encoding: 'utf8',
      env: { ...process.env, PYTHONPATH: testTools },
      maxBuffer: 1 << 28,
    });
}
