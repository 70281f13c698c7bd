// tfjs-node's binding: the package's own two C++ files, compiled against the libtensorflow in the cache, and two of ours, which register
// more TensorFlow ops when the binding is loaded (docs/adr/0011 and 0019). Without ours it is slower, and as good.
// It is kept in the cache, named after everything it is made of, and linked into node_modules, so that `npm ci` costs no
// compilation. It finds its libraries by $ORIGIN/../../deps/lib, which holds both for the link and for its target:
//
//   CACHE/binding-<key>/lib/napi-v8/tfjs_binding.node
//   CACHE/binding-<key>/deps/lib -> CACHE/tensorflow-2.21.0-cpu-<hash>/tensorflow
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { link } from './link.mjs';
import { run, say } from './report.mjs';
import { stagingFolder } from './staging.mjs';
import { findTensorflow, tensorflowFolder, tensorflowVersion } from './tensorflow.mjs';

const addon = 'lib/napi-v8/tfjs_binding.node';
const libraryFolder = 'deps/lib';
const sources = ['binding/tfjs_backend.cc', 'binding/tfjs_binding.cc'];
const flags = ['-O2', '-fPIC', '-shared', '-std=c++17', '-DNAPI_VERSION=8', '-w', '-Wl,-rpath,$ORIGIN/../../deps/lib'];
const nativeFolder = 'src/tower/native';
// Square roots and selections without regard to errno and traps become vector instructions; no flag here lets a result change.
const kernelFlags = ['-O3', '-fPIC', '-std=c++17', '-fno-math-errno', '-fno-trapping-math', '-ffp-contract=off', '-w'];

/** The folder of the binding that fits package-lock.json, or undefined. */
export function findBinding(project, cache, device) {
  const folder = bindingFolder(project, cache, device);
  return existsSync(join(folder, addon)) && existsSync(join(folder, libraryFolder)) ? folder : undefined;
}

/** Compiles the binding, and loads it once in a process of its own before it gets its final name. */
export async function buildBinding(project, cache, device, progress) {
  const whole = bindingFolder(project, cache, device);
  const tensorflow = tensorflowFolder(cache, device);
  const { libraryPath } = findTensorflow(cache, device);
  const staging = stagingFolder(cache);
  mkdirSync(dirname(join(staging, addon)), { recursive: true });
  mkdirSync(dirname(join(staging, libraryFolder)));

  const libraries = ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'].map((name) => join(tensorflow, 'tensorflow', name));
  const includes = [join(tensorflow, 'tensorflow', 'include'), join(project, 'node_modules/node-api-headers/include'), '.'];
  const include = includes.map((path) => `-I${path}`);
  const objects = await compileKernels(project, include, staging);
  const compile = [...flags, ...include, ...sources, ...objects, '-o', join(staging, addon), ...libraries];
  await run('g++', compile, { cwd: tfjsFolder(project) });
  for (const object of objects) rmSync(object);

  progress.detail = 'loading it';
  symlinkSync(join(tensorflow, 'tensorflow'), join(staging, libraryFolder));
  await run(process.execPath, ['-e', 'process.dlopen({ exports: {} }, process.argv[1])', join(staging, addon)], {
    env: { ...process.env, LD_LIBRARY_PATH: libraryPath.join(':') },
  });
  rmSync(whole, { recursive: true, force: true });
  renameSync(staging, whole);
}

/** The object files of our own ops, without those that the compiler does not take. */
async function compileKernels(project, include, folder) {
  const objects = [];
  for (const source of nativeFiles(project).filter((name) => name.endsWith('.cc'))) {
    const object = join(folder, `${basename(source, '.cc')}.o`);
    try {
      await run('g++', ['-c', ...kernelFlags, ...include, join(project, nativeFolder, source), '-o', object]);
      objects.push(object);
    } catch (error) {
      const reason = error.message.split('\n').find((line) => line.includes('error:')) ?? error.message.split('\n', 1)[0];
      say(`our own ${source} does not compile here, and TensorFlow's ops do its work, more slowly: ${reason.trim()}`);
    }
  }
  return objects;
}

function nativeFiles(project) {
  return readdirSync(join(project, nativeFolder)).sort();
}

/** Makes the package in node_modules use the binding in the cache. */
export function linkBinding(project, cache, device) {
  const folder = bindingFolder(project, cache, device);
  for (const name of [addon, libraryFolder]) link(join(folder, name), join(tfjsFolder(project), name));
}

/** The folder's name is a hash of all that goes into the binding; a package's integrity stands for its sources. */
function bindingFolder(project, cache, device) {
  const { packages } = JSON.parse(readFileSync(join(project, 'package-lock.json'), 'utf8'));
  const madeOf = ['@tensorflow/tfjs-node-gpu', 'node-api-headers'].map((name) => packages[`node_modules/${name}`].integrity);
  const kernels = nativeFiles(project).map((name) => readFileSync(join(project, nativeFolder, name), 'utf8'));
  const key = JSON.stringify([tensorflowVersion, basename(tensorflowFolder(cache, device)), flags, madeOf, kernelFlags, kernels]);
  return join(cache, `binding-${createHash('sha256').update(key).digest('hex').slice(0, 12)}`);
}

function tfjsFolder(project) {
  return join(project, 'node_modules/@tensorflow/tfjs-node-gpu');
}
