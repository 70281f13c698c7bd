// Python wheels as a source of native libraries: pip downloads what a list names and compares it with the list's hashes, and nothing is installed.
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './report.mjs';

// What the lists of wheels were resolved for; it does not depend on the python3 that runs pip.
const target = ['--python-version=3.11', '--implementation=cp', '--abi=cp311', '--abi=abi3', '--abi=none'];
const platforms = ['manylinux_2_27', 'manylinux2014', 'manylinux_2_17', 'manylinux2010', 'manylinux_2_12'];

/**
 * A folder within `staging` with the libraries and headers of the wheels in `list`, in the wheels' own layout, and contents.json, the size
 * of each library.
 * @throws {SetupError} where pip cannot have them, or they are not what the list says.
 */
export async function unpackedWheels(staging, list, progress) {
  const wheels = join(staging, 'wheels');
  const unpacked = join(staging, 'unpacked');
  mkdirSync(wheels);
  mkdirSync(unpacked);

  progress.detail = () => `${Math.round(folderBytes(wheels) / 1e6)} MB`;
  const download = ['download', '--no-deps', '--no-cache-dir', '--only-binary=:all:', '--require-hashes', '--progress-bar=off'];
  await run(
    'python3',
    [
      ...['-m', 'pip', ...download, ...target, ...platforms.map((name) => `--platform=${name}_x86_64`)],
      ...['--dest', wheels, '--requirement', list],
    ],
    { env: { ...process.env, TMPDIR: wheels } }, // pip's temporary files are as big as the wheels: keep them on the cache's disk.
  );

  progress.detail = 'unpacking';
  const files = readdirSync(wheels).filter((name) => name.endsWith('.whl'));
  const unpacker = join(import.meta.dirname, 'unpack_wheels.py');
  const libraries = await run('python3', [unpacker, unpacked, ...files.map((name) => join(wheels, name))]);
  writeFileSync(join(unpacked, 'contents.json'), libraries);
  return unpacked;
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
