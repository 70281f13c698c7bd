// `npm run setup`: everything a clone needs before it can train, each step skipped when its result is already there.
//
//   npm packages -> libtensorflow (out of TensorFlow's wheel) -> tfjs-node's binding, compiled against it -> the JPEG decoder -> jemalloc -> dist/
//
// Invariant: a result appears under its final name only when it is whole (everything is made in a staging folder of the
// cache and renamed), so a set-up that was killed at any moment is repaired by running it again.
// Exit codes: 0 done, 1 a step failed, 2 the machine or the command line lacks something (one sentence says what).
import { mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { packagesAreInstalled, installPackages, sourcesAreBuilt, buildSources, linkCommands } from './setup/project.mjs';
import { findBinding, buildBinding, linkBinding } from './setup/binding.mjs';
import { findJemalloc, fetchJemalloc } from './setup/jemalloc.mjs';
import { buildJpegDecoder, decoderAttempt, findJpegDecoder, isDecoderDue, linkJpegDecoder } from './setup/jpegDecoder.mjs';
import { takeLock } from './setup/lock.mjs';
import { missingTools, unsupportedPlatform } from './setup/machine.mjs';
import { SetupError, say, step } from './setup/report.mjs';
import { clearStaging } from './setup/staging.mjs';
import { chooseDevice, fetchTensorflow, findTensorflow, tensorflowVersion } from './setup/tensorflow.mjs';
import { readEnvironment, writeEnvironment } from './setup/environment.mjs';
import { fetchTestPrograms, findTestPrograms } from './setup/testPrograms.mjs';
import { fetchTestTools, findTestTools } from './setup/testTools.mjs';

const help = `npm run setup [-- options]

Makes this clone ready: installs the npm packages, takes libtensorflow ${tensorflowVersion} out of TensorFlow's wheel, compiles
the binding of tfjs-node against it, and builds dist/. Running it again costs under a second.

Options
  --retry        try again what is optional and failed before (npm run setup does; npm test and quickstart do not)
  --no-build     leave dist/ alone (the checks and the fast tests run from the sources)
  --test-tools   also fetch Python's readers of our files (numpy, safetensors, onnxruntime), and sshd and Slurm, as npm test does
  --help         this text

Environment
  CROSSTOWER_CACHE    folder of what is downloaded and compiled (default: $XDG_CACHE_HOME/crosstower or ~/.cache/crosstower)
  CROSSTOWER_DEVICE   cpu or gpu: which TensorFlow to take (default: gpu where an NVIDIA driver is loaded)

Examples
  npm run setup
  CROSSTOWER_DEVICE=cpu npm run setup            the small download, also on a machine with a GPU
  CROSSTOWER_CACHE=/data/cache npm run setup     where the home folder is small`;

try {
  await main();
} catch (error) {
  // A refusal of the file system (no permission, disk full) says enough by itself; anything else is a bug, with its stack.
  if (!(error instanceof SetupError) && !error.syscall) throw error;
  say(error.message);
  process.exitCode = error.exitCode ?? 1;
}

async function main() {
  const options = readArguments();
  if (options.help) {
    console.log(help);
    return;
  }
  refuse(unsupportedPlatform());
  const project = resolve(import.meta.dirname, '..');
  const cache = resolve(
    process.env.CROSSTOWER_CACHE || join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'crosstower'),
  );
  const device = chooseDevice(process.env.CROSSTOWER_DEVICE);

  mkdirSync(cache, { recursive: true });
  const releaseLock = await takeLock(join(cache, 'setup.lock'));
  try {
    await prepare(project, cache, device, options);
    if (options.build) await build(project);
    say(`ready, with libtensorflow ${tensorflowVersion} for the ${device.toUpperCase()}`);
  } finally {
    clearStaging(cache);
    releaseLock();
  }
}

/** Packages, TensorFlow, binding, JPEG decoder, jemalloc: all that the sources need to run. */
async function prepare(project, cache, device, { retry, 'test-tools': withTestTools }) {
  const tensorflow = findTensorflow(cache, device);
  const binding = findBinding(project, cache, device);
  refuse(missingTools({ cache, device, download: !tensorflow, compile: !binding }));

  if (!packagesAreInstalled(project)) await step('installing the npm packages', () => installPackages(project));
  if (!tensorflow) {
    await step(`downloading libtensorflow ${tensorflowVersion} for the ${device.toUpperCase()}`, (progress) =>
      fetchTensorflow(cache, device, progress),
    );
  }
  if (!binding) await step('compiling the binding of tfjs-node', (progress) => buildBinding(project, cache, device, progress));
  linkBinding(project, cache, device);

  const before = readEnvironment(project);
  let jpegDecoder = findJpegDecoder(project, cache, device);
  const attempt = jpegDecoder ? null : decoderAttempt(project, cache, device);
  if (attempt !== null && isDecoderDue(attempt, before, retry)) {
    const { folder, reason } = await step('making the JPEG decoder', (progress) =>
      buildJpegDecoder(project, cache, device, progress),
    );
    jpegDecoder = folder;
    if (!jpegDecoder)
      say(`no fast JPEG decoder here, and sharp does its work at a quarter of the speed; npm run setup tries again: ${reason}`);
  }
  linkJpegDecoder(project, jpegDecoder);
  let jemalloc = findJemalloc(cache);
  if (!jemalloc && (retry || !before)) {
    jemalloc = await step('fetching the allocator jemalloc', () => fetchJemalloc(cache));
    if (!jemalloc) say("no jemalloc here (Debian: libjemalloc2): the workers use glibc's allocator, which is about 5% slower");
  }
  let testTools = findTestTools(cache);
  if (!testTools && withTestTools) {
    testTools = await step("fetching Python's readers for the tests", () => fetchTestTools(cache));
    if (!testTools) say("pip could not fetch Python's readers: the tests that compare with them are skipped");
  }
  let testPrograms = findTestPrograms(cache);
  if (!testPrograms && withTestTools) {
    testPrograms = await step('fetching sshd and Slurm for the tests', () => fetchTestPrograms(cache));
    if (!testPrograms)
      say('apt-get could not fetch sshd and Slurm: the tests that launch through them use those installed, or are skipped');
  }
  writeEnvironment(project, {
    jemalloc,
    jpegDecoder: jpegDecoder ?? null,
    jpegFailure: jpegDecoder ? null : attempt,
    testTools,
    testPrograms,
    libraryPath: findTensorflow(cache, device).libraryPath,
    device,
    tensorflow: tensorflowVersion,
  });
}

async function build(project) {
  if (!sourcesAreBuilt(project)) await step('building dist/', () => buildSources(project));
  linkCommands(project);
}

function readArguments() {
  try {
    const { values } = parseArgs({
      options: {
        build: { type: 'boolean', default: true },
        retry: { type: 'boolean', default: false },
        'test-tools': { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
      allowNegative: true,
    });
    return values;
  } catch (error) {
    throw new SetupError(`${error.message} (npm run setup -- --help shows the options)`, 2);
  }
}

/** Ends the set-up with one sentence for each thing that is missing. */
function refuse(problems) {
  if (problems.length > 0) throw new SetupError(problems.join('\n'), 2);
}
