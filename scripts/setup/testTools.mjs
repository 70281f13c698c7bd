// Python's own readers of the files that we write (numpy, safetensors, onnxruntime), for the tests that compare with them. In a folder of
// the cache that goes into PYTHONPATH: no virtual environment, which some systems' Python cannot make.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { SetupError, run } from './report.mjs';
import { stagingFolder } from './staging.mjs';

const requirements = join(import.meta.dirname, 'requirements-tests.txt');

/** The folder, if it is there for this Python; else null. */
export function findTestTools(cache) {
  const folder = testToolsFolder(cache);
  return folder !== null && existsSync(folder) ? folder : null;
}

/** Installs the packages, and returns their folder; null where pip cannot: the tests that need them are skipped then. */
export async function fetchTestTools(cache) {
  const folder = testToolsFolder(cache);
  if (folder === null) return null;
  const staging = join(stagingFolder(cache), 'packages');
  try {
    const pip = ['-m', 'pip', 'install', '--quiet', '--no-cache-dir', '--only-binary=:all:', '--disable-pip-version-check'];
    await run('python3', [...pip, '--target', staging, '--requirement', requirements]);
  } catch (error) {
    if (error instanceof SetupError) return null;
    throw error;
  }
  renameSync(staging, folder);
  return folder;
}

function testToolsFolder(cache) {
  try {
    const version = execFileSync('python3', ['-c', 'import sys; print("%d.%d" % sys.version_info[:2])'], {
      encoding: 'utf8',
    }).trim();
    const list = createHash('sha256').update(readFileSync(requirements)).digest('hex').slice(0, 8);
    return join(cache, `test-tools-python${version}-${list}`);
  } catch {
    return null;
  }
}
