// A Python environment per peer in the cache folder, made when it is first asked for out of bench/peers/requirements-*.txt.
// Invariant: an environment appears under its name only when it is whole, and is made again when its requirements change.

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CrosstowerError, exitCodes } from '../src/spec/errors.ts';
import type { ProcessKeeper } from './processKeeper.ts';
import { isRunning } from './processTree.ts';

/** What bench/peers has a program and requirements for. */
export const frameworks = ['tensorflow', 'pytorch'] as const;
export type Framework = (typeof frameworks)[number];
/** What is installed for Python: a framework, or PIL for pictures. */
type Installed = Framework | 'pil';

const keptCharacters = 3000;

/** A Python program of bench/peers; this file runs compiled, two folders below the project. */
export function peerScript(peer: Installed): string {
  return peerFile(peer === 'pil' ? 'pictures_pil.py' : `alexnet_${peer}.py`);
}

function peerFile(name: string): string {
  return fileURLToPath(new URL(`../../bench/peers/${name}`, import.meta.url));
}

/** The path of a Python that has the framework; installs it where it is missing. Throws CrosstowerError with pip's last words. */
export async function peerPython(
  keeper: ProcessKeeper,
  framework: Installed,
  { cacheFolder, say }: { cacheFolder: string; say: (line: string) => void },
): Promise<string> {
  const requirements = peerFile(`requirements-${framework}.txt`);
  const folder = join(cacheFolder, 'peers', framework);
  const python = join(folder, 'bin', 'python');
  const wanted = createHash('sha256').update(readFileSync(requirements)).digest('hex');
  const isReady = (): boolean => existsSync(python) && readStamp(folder) === wanted;
  if (isReady()) return python;

  say(`${framework}: installing it for Python into ${folder} (once; some minutes and gigabytes)`);
  mkdirSync(join(cacheFolder, 'peers'), { recursive: true });
  removeLeftovers(join(cacheFolder, 'peers'));
  const partial = `${folder}.partial-${process.pid}`;
  keeper.removeAtEnd(partial);
  await run(keeper, 'python3', ['-m', 'venv', partial], 'on Debian, `apt-get install python3-venv` mends a missing venv');
  const pip = ['-m', 'pip', 'install', '--quiet', '--requirement', requirements];
  await run(
    keeper,
    join(partial, 'bin', 'python'),
    pip,
    framework === 'pil' ? 'it takes Pillow and numpy' : `\`npm run bench\` without --peer ${framework} measures crosstower alone`,
  );
  writeFileSync(stampOf(partial), wanted);
  if (!isReady()) {
    rmSync(folder, { recursive: true, force: true });
    renameSync(partial, folder);
  }
  return python;
}

function stampOf(folder: string): string {
  return join(folder, 'requirements.sha256');
}

function readStamp(folder: string): string | undefined {
  try {
    return readFileSync(stampOf(folder), 'utf8');
  } catch {
    return undefined;
  }
}

/** Half-made environments whose maker was killed. */
function removeLeftovers(parent: string): void {
  for (const name of readdirSync(parent)) {
    const maker = /\.partial-(\d+)$/.exec(name)?.[1];
    if (maker !== undefined && !isRunning(Number(maker))) rmSync(join(parent, name), { recursive: true, force: true });
  }
}

async function run(keeper: ProcessKeeper, command: string, args: readonly string[], advice: string): Promise<void> {
  const { child, ended } = keeper.spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-keptCharacters);
    });
  }
  const how = await ended;
  if (how === 'exit code 0') return;
  throw new CrosstowerError(
    exitCodes.data,
    `${command} ${args.slice(0, 3).join(' ')} failed (${how}); ${advice}. It said:\n${said.trim()}`,
  );
}
