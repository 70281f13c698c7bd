// libtensorflow, taken out of TensorFlow's Python wheel. tfjs-node's own install script fetches a build for CUDA 11 from a file
// host; the wheel is newer, on every package index, and the same binding works with its CPU and its GPU form.
//
//   CACHE/tensorflow-2.21.0-cpu-<hash of the list of wheels>/
//     tensorflow/libtensorflow_cc.so.2, libtensorflow_framework.so.2, include/
//     nvidia/<package>/lib/*.so        (GPU only; TensorFlow finds cuda_nvcc beside itself, the rest by LD_LIBRARY_PATH)
//     contents.json                    the size of each library
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SetupError } from './report.mjs';
import { stagingFolder } from './staging.mjs';
import { unpackedWheels } from './wheels.mjs';

export const tensorflowVersion = '2.21.0';

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
  const unpacked = await unpackedWheels(staging, wheelList(device), progress);

  const whole = tensorflowFolder(cache, device);
  rmSync(whole, { recursive: true, force: true });
  renameSync(unpacked, whole);
}

function wheelList(device) {
  return join(import.meta.dirname, `wheels-${device}.txt`);
}
