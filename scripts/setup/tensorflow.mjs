// libtensorflow, taken out of TensorFlow's Python wheel. tfjs-node's own install script fetches a build for CUDA 11 from a file
// host; the wheel is newer, on every package index, and the same binding works with its CPU and its GPU form.
//
//   CACHE/tensorflow-2.21.0-cpu-<hash of the list of wheels>/
//     tensorflow/libtensorflow_cc.so.2, libtensorflow_framework.so.2, include/
//     nvidia/<package>/lib/*.so        (GPU only; TensorFlow finds cuda_nvcc beside itself, the rest by LD_LIBRARY_PATH)
//     contents.json                    the size of each library
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SetupError, run } from './report.mjs';
import { stagingFolder } from './staging.mjs';

export const tensorflowVersion = '2.21.0';

// What the lists of wheels were resolved for; it does not depend on the python3 that runs pip, as nothing is installed.
const wheelTarget = ['--python-version=3.11', '--implementation=cp', '--abi=cp311', '--abi=abi3', '--abi=none'];
const wheelPlatforms = ['manylinux_2_27', 'manylinux2014', 'manylinux_2_17', 'manylinux2010', 'manylinux_2_12'];

/** `cpu` or `gpu`: what the user asks for, else what the machine has. */
export function chooseDevice(asked) {
  if (asked === 'cpu' || asked === 'gpu') return asked;
  if (asked) throw new SetupError(`CROSSTOWER_DEVICE is '${asked}' and must be cpu or gpu, or not set`, 2);
  const driverIsLoaded =
    existsSync('/dev/nvidiactl') || spawnSync('nvidia-smi', ['--list-gpus'], { stdio: 'ignore' }).status === 0;
  return driverIsLoaded ? 'gpu' : 'cpu';
}

/** The folder that holds this version for this device, whether or not it is there. */
export function tensorflowFolder(cache, device) {
  const list = createHash('sha256')
    .update(readFileSync(wheelList(device)))
    .digest('hex')
    .slice(0, 8);
  return join(cache, `tensorflow-${tensorflowVersion}-${device}-${list}`);
}

/**
 * Where TensorFlow lies in the cache, or undefined unless every library is there in its full size.
 * `libraryPath` are the folders of NVIDIA's libraries.
 */
export function findTensorflow(cache, device) {
  const folder = tensorflowFolder(cache, device);
  const contents = join(folder, 'contents.json');
  if (!existsSync(contents)) return undefined;
  const libraries = Object.entries(JSON.parse(readFileSync(contents, 'utf8')));
  const isWhole = libraries.every(([name, bytes]) => statSync(join(folder, name), { throwIfNoEntry: false })?.size === bytes);
  if (!isWhole) return undefined;
  const nvidia = libraries.map(([name]) => dirname(name)).filter((name) => name.startsWith('nvidia/'));
  return { folder, libraryPath: [...new Set(nvidia)].sort().map((name) => join(folder, name)) };
}

/** Downloads the wheels (pip compares them with the hashes of the list), unpacks what we need, and drops the wheels. */
export async function fetchTensorflow(cache, device, progress) {
  const staging = stagingFolder(cache);
  const wheels = join(staging, 'wheels');
  const unpacked = join(staging, 'unpacked');
  mkdirSync(wheels);
  mkdirSync(unpacked);

  progress.detail = () => `${Math.round(folderBytes(wheels) / 1e6)} MB`;
  const download = ['download', '--no-deps', '--no-cache-dir', '--only-binary=:all:', '--require-hashes', '--progress-bar=off'];
  const platforms = wheelPlatforms.map((name) => `--platform=${name}_x86_64`);
  await run(
    'python3',
    ['-m', 'pip', ...download, ...wheelTarget, ...platforms, '--dest', wheels, '--requirement', wheelList(device)],
    { env: { ...process.env, TMPDIR: wheels } }, // pip's temporary files are as big as the wheels: keep them on the cache's disk.
  );

  progress.detail = 'unpacking';
  const files = readdirSync(wheels).filter((name) => name.endsWith('.whl'));
  const unpacker = join(import.meta.dirname, 'unpack_wheels.py');
  const libraries = await run('python3', [unpacker, unpacked, ...files.map((name) => join(wheels, name))]);
  writeFileSync(join(unpacked, 'contents.json'), libraries);

  const whole = tensorflowFolder(cache, device);
  rmSync(whole, { recursive: true, force: true });
  renameSync(unpacked, whole);
}

function wheelList(device) {
  return join(import.meta.dirname, `wheels-${device}.txt`);
}

/** Bytes of the files in a folder and its subfolders; what vanishes while we look counts as nothing. */
function folderBytes(folder) {
  try {
    return readdirSync(folder, { recursive: true })
      .map((name) => statSync(join(folder, name), { throwIfNoEntry: false }))
      .reduce((sum, stats) => sum + (stats?.isFile() ? stats.size : 0), 0);
  } catch (error) {
    if (error.code === 'ENOENT') return 0;
    throw error;
  }
}
