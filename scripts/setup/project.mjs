// What the set-up does inside the clone: node_modules from package-lock.json, dist/ from the sources, and the two commands.
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { link } from './link.mjs';
import { run } from './report.mjs';

/**
 * Whether node_modules holds what package-lock.json asks for, by npm's own record of what it installed (which it writes
 * last). Packages made for other platforms are optional and may be absent.
 */
export function packagesAreInstalled(project) {
  const record = join(project, 'node_modules', '.package-lock.json');
  if (!existsSync(record)) return false;
  const asked = readPackages(join(project, 'package-lock.json'));
  const installed = readPackages(record);
  return (
    Object.entries(asked).every(([path, entry]) => path === '' || path in installed || entry.optional) &&
    Object.entries(installed).every(
      ([path, entry]) => asked[path]?.version === entry.version && asked[path].integrity === entry.integrity,
    )
  );
}

function readPackages(file) {
  return JSON.parse(readFileSync(file, 'utf8')).packages;
}

/** `npm ci` without install scripts: tfjs-node's would download a TensorFlow of its own, and none of the others is needed. */
export async function installPackages(project) {
  await run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: project });
}

/** Whether dist/ was made of the sources as they are now. */
export function sourcesAreBuilt(project) {
  const stamp = stampFile(project);
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === hashSources(project);
}

/** Compiles the sources, and removes from dist/ what has no source any more. */
export async function buildSources(project) {
  const hash = hashSources(project); // Taken first: a file that changes meanwhile is built next time.
  rmSync(stampFile(project), { force: true });
  const compiler = join(project, 'node_modules/typescript/bin/tsc');
  const listing = await run(process.execPath, [compiler, '--project', 'tsconfig.build.json', '--listEmittedFiles'], {
    cwd: project,
  });
  const emitted = new Set([...listing.matchAll(/^TSFILE: (.+)$/gm)].map(([, path]) => resolve(project, path)));
  const dist = join(project, 'dist');
  for (const file of filesIn(dist)) if (!emitted.has(file)) rmSync(file);
  writeFileSync(stampFile(project), hash);
}

/** Makes `npx coordinator` and `npx worker` work in the clone, where npm links the commands of dependencies only. */
export function linkCommands(project) {
  const { bin } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'));
  for (const [command, script] of Object.entries(bin)) {
    chmodSync(join(project, script), 0o755);
    link(join('../..', script), join(project, 'node_modules/.bin', command));
  }
}

function hashSources(project) {
  const hash = createHash('sha256');
  const folders = ['src', 'bench'].map((name) => join(project, name)).filter((folder) => existsSync(folder));
  const settings = ['tsconfig.json', 'tsconfig.build.json', 'package-lock.json'].map((name) => join(project, name));
  for (const file of [...settings, ...folders.flatMap(filesIn)]) {
    hash
      .update(`${relative(project, file)}\n`)
      .update(readFileSync(file))
      .update('\n');
  }
  return hash.digest('hex');
}

function filesIn(folder) {
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile())
    .sort();
}

function stampFile(project) {
  return join(project, 'dist', '.sources');
}
