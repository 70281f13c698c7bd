// node_modules/.crosstower/environment.json: what `worker` must know before its real process starts (src/worker reads it).
//   { "jemalloc": path or null, "jpegDecoder": folder or null, "jpegFailure": the attempt that failed, else null, "testTools": folder for PYTHONPATH or null,
//     "testPrograms": folder of unpacked Debian packages or null, "libraryPath": folders for LD_LIBRARY_PATH, "device": "cpu" | "gpu", "tensorflow": version }
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** What the last set-up wrote, or undefined where none has run since the packages were installed. */
export function readEnvironment(project) {
  try {
    return JSON.parse(readFileSync(environmentFile(project), 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Writes the file if it says something else or nothing yet. */
export function writeEnvironment(project, environment) {
  const file = environmentFile(project);
  if (JSON.stringify(readEnvironment(project)) === JSON.stringify(environment)) return;
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.partial`, `${JSON.stringify(environment, undefined, 2)}\n`);
  renameSync(`${file}.partial`, file);
}

function environmentFile(project) {
  return join(project, 'node_modules', '.crosstower', 'environment.json');
}
