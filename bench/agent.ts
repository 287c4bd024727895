import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { makeFile } from './content.ts'
import { scratch, startPeer } from './process.ts'
import { has, type Measurement, say } from './report.ts'

const GIB = 2 ** 30

/** From the start of the process until 10,000 files that did not change are served again. */
export async function restart(): Promise<Measurement[]> {
  const FILES = 10_000
  say(`restart: an agent with ${FILES.toLocaleString('en-US')} files …`)
  const folder = scratch(false)
  try {
    for (let d = 0; d < 100; d++) {
      mkdirSync(join(folder.path, 'P1', `folder-${d}`), { recursive: true })
      for (let i = 0; i < FILES / 100; i++)
        writeFileSync(join(folder.path, 'P1', `folder-${d}`, `file-${i}.txt`), `file ${i} of ${d}\n`.repeat(200))
    }
    const first = await timeToReady(folder.path, FILES)
    const again = await timeToReady(folder.path, FILES)
    return [
      { what: 'first start with 10,000 files: all hashed', value: first, unit: 's' },
      {
        what: 'restart with 10,000 unchanged files: catalog ready',
        value: again,
        unit: 's',
        target: { atMost: 1.5 },
        baseline: { what: 'the first start', value: first, unit: 's' },
        note: 'from the start of the process',
      },
    ]
  } finally {
    folder.remove()
  }
}

async function timeToReady(folder: string, files: number): Promise<number> {
  const begin = performance.now()
  const agent = await startPeer(folder, 'P1', 19_010)
  try {
    for (;;) {
      const info = (await (await fetch(`${agent.url}/info`)).json()) as { files: number; scanning: boolean }
      if (!info.scanning && info.files === files) return (performance.now() - begin) / 1000
      if (performance.now() - begin > 120_000) throw new Error(`${info.files} of ${files} files after two minutes`)
      await pause(10)
    }
  } finally {
    await agent.stop()
  }
}

/** 1 GiB from one provider over loopback, memory file system, every piece verified. */
export async function single(): Promise<Measurement[]> {
  say('single: 1 GiB from one provider …')
  const folder = scratch(true)
  touchMemory(folder.path)
  makeFileIn(folder.path, 'P1', GIB)
  const provider = await startPeer(folder.path, 'P1', 19_011)
  const taker = await startPeer(folder.path, 'P2', 19_012, { friend_peer_primary: provider.url })
  try {
    await shared(provider.url)
    const begin = performance.now()
    const { transfer } = (await (
      await fetch(`${taker.url}/transfers`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ file: 'big.bin' }),
      })
    ).json()) as { transfer: string }
    for (;;) {
      const now = (await (await fetch(`${taker.url}/transfers/${transfer}`)).json()) as {
        state: string
        error: unknown
      }
      if (now.state === 'done') break
      if (now.state === 'failed' || performance.now() - begin > 120_000)
        throw new Error(`the download ${now.state}: ${JSON.stringify(now.error)}`)
      await pause(20)
    }
    const seconds = (performance.now() - begin) / 1000
    execFileSync('cmp', [join(folder.path, 'P1', 'big.bin'), join(folder.path, 'P2', 'big.bin')])
    const memory = [provider.peakMB(), taker.peakMB()]
    const curl = has('curl') ? curlRate(`${provider.url}/files/big.bin`, join(folder.path, 'curl')) : undefined
    return [
      {
        what: '1 GiB download, one provider, verified',
        value: GIB / 1e6 / seconds,
        unit: 'MB/s',
        target: { atLeast: 400 },
        ...(curl === undefined
          ? {}
          : { baseline: { what: 'curl from the same agent, unverified', value: curl, unit: 'MB/s' } }),
        note: `${seconds.toFixed(2)} s`,
      },
      { what: '… provider, peak resident memory', value: memory[0]!, unit: 'MB', target: { atMost: 200 } },
      { what: '… taker, peak resident memory', value: memory[1]!, unit: 'MB', target: { atMost: 200 } },
    ]
  } finally {
    await Promise.all([provider.stop(), taker.stop()])
    folder.remove()
  }
}

function makeFileIn(folder: string, peer: string, size: number): void {
  mkdirSync(join(folder, peer), { recursive: true })
  makeFile(join(folder, peer, 'big.bin'), size)
}

/** A virtual machine may get its memory only when it is first written to, which would be measured as ours. */
function touchMemory(folder: string): void {
  const path = join(folder, 'touched')
  makeFile(path, 4 * GIB)
  rmSync(path)
}

async function shared(url: string): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    const { exists } = (await (await fetch(`${url}/search?file=big.bin`)).json()) as { exists: boolean }
    if (exists) return
    await pause(20)
  }
  throw new Error('the provider does not share the file')
}

function curlRate(url: string, to: string): number {
  const begin = performance.now()
  execFileSync('curl', ['-sf', '-o', to, url])
  return statSync(to).size / 1e6 / ((performance.now() - begin) / 1000)
}
