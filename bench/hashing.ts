import { execFileSync } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { WorkerHasher } from '../peer/hashing/worker-hasher.ts'
import { makeFile } from './content.ts'
import { isInstalled, scratch } from './process.ts'
import { type Measurement, say } from './report.ts'

const GIB = 2 ** 30

/** Content id of 1 GiB, beside what OpenSSL makes of a core. */
export async function hashing(): Promise<Measurement[]> {
  say('hashing: the content id of 1 GiB …')
  const folder = scratch('memory')
  const hasher = new WorkerHasher()
  try {
    const path = join(folder.path, 'file')
    makeFile(path, GIB)
    const fd = openSync(path, 'r')
    await hasher.hashFile(fd, 1024 * 1024)
    const core = opensslRate()
    const begin = performance.now()
    await hasher.hashFile(fd, GIB)
    const rate = GIB / 1e6 / ((performance.now() - begin) / 1000)
    closeSync(fd)
    return [
      {
        what: 'content id of 1 GiB',
        value: rate,
        unit: 'MB/s',
        ...(core === undefined
          ? { note: 'openssl is not installed: no baseline' }
          : {
              target: { atLeast: Math.round(0.6 * core) },
              baseline: { what: 'openssl speed -evp sha256, one core', value: core, unit: 'MB/s' },
            }),
      },
    ]
  } finally {
    await hasher.close()
    folder.remove()
  }
}

/** MB/s of `openssl speed` at 16 KiB blocks. */
function opensslRate(): number | undefined {
  if (!isInstalled('openssl')) return undefined
  const output = execFileSync('openssl', ['speed', '-evp', 'sha256', '-bytes', '16384', '-seconds', '2'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  return Number(/sha256\s+([\d.]+)k/i.exec(output)![1]) / 1000
}
