// The addon that loader threads decode JPEG pictures with (src/data/native/cutJpeg.cc, docs/adr/0018-jpeg-decoder.md): libjpeg-turbo out of
// Pillow's wheel, the headers of the same interface out of TensorFlow's, and one file of ours. Without it sharp decodes all, more slowly.
// It is kept in the cache, named after everything it is made of, and linked into node_modules:
//
//   CACHE/jpeg-<key>/cutJpeg.node, libjpeg-<Pillow's>.so      node_modules/.crosstower/jpeg -> CACHE/jpeg-<key>
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { link } from './link.mjs';
import { SetupError, run } from './report.mjs';
import { stagingFolder } from './staging.mjs';
import { tensorflowFolder } from './tensorflow.mjs';
import { unpackedWheels } from './wheels.mjs';

const addon = 'cutJpeg.node';
const source = 'src/data/native/cutJpeg.cc';
const wheels = join(import.meta.dirname, 'wheels-jpeg.txt');
const flags = ['-O2', '-fPIC', '-shared', '-std=c++17', '-DNAPI_VERSION=8', '-Wl,-rpath,$ORIGIN'];

/** The folder of the decoder that fits the sources, or undefined. */
export function findJpegDecoder(project, cache, device) {
  const folder = decoderFolder(project, cache, device);
  return existsSync(join(folder, addon)) ? folder : undefined;
}

/** Names what an attempt to make it is made of, and with; an attempt that failed is not repeated until this changes or somebody asks. */
export function decoderAttempt(project, cache, device) {
  const compiler = spawnSync('g++', ['--version'], { encoding: 'utf8' }).stdout?.split('\n', 1)[0] || 'no g++';
  return `${basename(decoderFolder(project, cache, device))} by ${compiler}`;
}

/** Whether to attempt it: `before` is what the last set-up wrote, if any. */
export function isDecoderDue(attempt, before, retry) {
  return retry || before?.jpegFailure !== attempt;
}

/** Makes it, and loads it once in a process of its own before it gets its final name: `folder`, or `reason` where that cannot be done. */
export async function buildJpegDecoder(project, cache, device, progress) {
  try {
    const unpacked = await unpackedWheels(stagingFolder(cache), wheels, progress);
    const staging = join(stagingFolder(cache), 'decoder');
    mkdirSync(staging);
    const [library] = readdirSync(join(unpacked, 'pillow.libs'));
    renameSync(join(unpacked, 'pillow.libs', library), join(staging, library));
    progress.detail = 'compiling';
    const headers = [
      join(tensorflowFolder(cache, device), 'tensorflow/include/external/libjpeg_turbo'),
      join(project, 'node_modules/node-api-headers/include'),
    ];
    const include = headers.map((path) => `-I${path}`);
    await run('g++', [...flags, ...include, join(project, source), '-o', join(staging, addon), join(staging, library)]);
    await run(process.execPath, ['-e', 'process.dlopen({ exports: {} }, process.argv[1])', join(staging, addon)]);
    const whole = decoderFolder(project, cache, device);
    rmSync(whole, { recursive: true, force: true });
    renameSync(staging, whole);
    return { folder: whole };
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    const lines = error.message.split('\n');
    return { reason: (lines.find((line) => /error:/i.test(line)) ?? lines[0]).trim() };
  }
}

/** Where loader threads look for it; nothing is there while it could not be made. The addon finds its library beside itself, by $ORIGIN. */
export function linkJpegDecoder(project, folder) {
  const path = join(project, 'node_modules/.crosstower/jpeg');
  if (folder === undefined) rmSync(path, { recursive: true, force: true });
  else link(folder, path);
}

/** The folder's name is a hash of all that goes into it. */
function decoderFolder(project, cache, device) {
  const { packages } = JSON.parse(readFileSync(join(project, 'package-lock.json'), 'utf8'));
  const madeOf = [wheels, join(project, source)].map((file) => readFileSync(file, 'utf8'));
  const key = [flags, ...madeOf, basename(tensorflowFolder(cache, device)), packages['node_modules/node-api-headers'].integrity];
  return join(cache, `jpeg-${createHash('sha256').update(JSON.stringify(key)).digest('hex').slice(0, 12)}`);
}
