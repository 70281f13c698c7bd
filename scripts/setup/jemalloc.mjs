// jemalloc, preloaded into the workers (docs/adr has the reason: kept memory, 5% of the step). The system's own where there
// is one; else Debian's package, unpacked into the cache without root; else none, which costs speed and nothing more.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { SetupError, run } from './report.mjs';
import { stagingFolder } from './staging.mjs';

const library = 'libjemalloc.so.2';
const debianFolder = '/usr/lib/x86_64-linux-gnu';

/** The path of libjemalloc, or null. */
export function findJemalloc(cache) {
  const places = [join(debianFolder, library), join('/usr/lib64', library), join(cache, 'jemalloc', library)];
  return places.find((path) => existsSync(path)) ?? knownToTheLoader();
}

/** Takes the library out of Debian's libjemalloc2, and returns its path; null where that cannot be done. */
export async function fetchJemalloc(cache) {
  const staging = stagingFolder(cache);
  try {
    await run('apt-get', ['download', 'libjemalloc2'], { cwd: staging });
    const archive = readdirSync(staging).find((name) => name.endsWith('.deb'));
    if (!archive) return null;
    await run('dpkg-deb', ['-x', archive, 'unpacked'], { cwd: staging });
    const whole = join(cache, 'jemalloc');
    mkdirSync(whole, { recursive: true });
    renameSync(join(staging, 'unpacked', debianFolder, library), join(whole, library));
    return join(whole, library);
  } catch (error) {
    // No apt, no network, or no such package: the caller says that there is no jemalloc.
    if (error instanceof SetupError || error.code === 'ENOENT') return null;
    throw error;
  }
}

function knownToTheLoader() {
  try {
    const listing = execFileSync('/sbin/ldconfig', ['-p'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return listing.match(/libjemalloc\.so\.2 \(libc6,x86-64[^)]*\) => (\S+)/)?.[1] ?? null;
  } catch {
    return null;
  }
}
