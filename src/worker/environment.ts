// The environment that TensorFlow and the allocator read once, when a process starts: which device, how many threads, which allocator.
// Invariant: it must be set before the addon loads, so the worker's command starts the real worker process with it (launch.ts).
// glibc gives big blocks back to the system at once, and touching fresh pages costs more than the kernels that fill them
// (docs/adr/0005-allocator.md): jemalloc keeps what it has, and where it is missing, tunables make glibc do so.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { packageRoot } from '../spec/packageRoot.ts';
import { UsageError } from '../spec/errors.ts';

/** What a worker computes on. */
export type DeviceChoice =
  | { readonly kind: 'cpu'; readonly threads: number }
  /** The GPU of this number, as nvidia-smi counts them. */
  | { readonly kind: 'gpu'; readonly index: number };

/** What set-up found on this machine (scripts/setup.mjs writes it). */
const setupSchema = z.object({
  jemalloc: z.string().nullable(),
  libraryPath: z.array(z.string()),
  device: z.enum(['cpu', 'gpu']),
});
export type Setup = z.infer<typeof setupSchema>;

const setupFile = new URL('node_modules/.crosstower/environment.json', packageRoot());

/** Reads what set-up found; throws UsageError where set-up has not run. */
export function readSetup(file: URL = setupFile): Setup {
  try {
    return setupSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch (error) {
    throw new UsageError('this checkout is not set up: run `npm run setup` first', { cause: error });
  }
}

/** The variables that the real worker process starts with, on top of its own. */
export function workerEnvironment(device: DeviceChoice, setup: Setup): Record<string, string> {
  const common = { TF_CPP_MIN_LOG_LEVEL: '2', ...allocatorEnvironment(setup.jemalloc) };
  if (device.kind === 'cpu') {
    return {
      ...common,
      CUDA_VISIBLE_DEVICES: '-1',
      TF_NUM_INTRAOP_THREADS: String(device.threads),
      TF_NUM_INTEROP_THREADS: '1',
      OMP_NUM_THREADS: String(device.threads),
    };
  }
  return {
    ...common,
    CUDA_DEVICE_ORDER: 'PCI_BUS_ID',
    CUDA_VISIBLE_DEVICES: String(device.index),
    TF_FORCE_GPU_ALLOW_GROWTH: 'true',
    LD_LIBRARY_PATH: [...setup.libraryPath, process.env['LD_LIBRARY_PATH'] ?? ''].filter((path) => path !== '').join(':'),
  };
}

/**
 * Keeps freed memory in the process. jemalloc does not cut a piece off a free block of more than 64 times its size: that bounds fragmentation where
 * unused memory goes back to the system, and here, where none does, makes a 1 MiB frame take fresh memory while a hundred MB lie free.
 */
export function allocatorEnvironment(jemalloc: string | null): Record<string, string> {
  if (jemalloc !== null) {
    return {
      LD_PRELOAD: jemalloc,
      MALLOC_CONF:
        'dirty_decay_ms:-1,muzzy_decay_ms:-1,retain:true,thp:always,oversize_threshold:0,narenas:1,lg_extent_max_active_fit:32',
    };
  }
  const tunables = { mmap_threshold: 4e9, trim_threshold: 4e10, top_pad: 268_435_456, arena_max: 1, hugetlb: 1 };
  return {
    GLIBC_TUNABLES: Object.entries(tunables)
      .map(([name, value]) => `glibc.malloc.${name}=${String(value)}`)
      .join(':'),
  };
}

/** The NVIDIA GPUs of this machine by name; none where there is no driver. */
export function listGpus(): string[] {
  try {
    const output = execFileSync('nvidia-smi', ['--query-gpu=name', '--format=csv,noheader'], {
      encoding: 'utf8',
      timeout: 10_000,
    });
    return output.split('\n').filter((line) => line.trim() !== '');
  } catch {
    return [];
  }
}

/** Throws UsageError where there is no such GPU, naming those that are there. */
export function checkGpu(index: number, gpus: readonly string[], setup: Setup): void {
  if (gpus[index] === undefined) {
    const there =
      gpus.length === 0
        ? 'this machine has none that nvidia-smi sees'
        : gpus.map((name, i) => `${String(i)} (${name})`).join(', ');
    throw new UsageError(`--gpu ${String(index)}: there is no such GPU (${there}); --cpu trains without one`);
  }
  if (setup.device !== 'gpu') {
    throw new UsageError(`--gpu ${String(index)}: set-up built for the CPU; run \`CROSSTOWER_DEVICE=gpu npm run setup\``);
  }
}
