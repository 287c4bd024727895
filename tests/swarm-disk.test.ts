import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, type TestContext, test } from 'vitest'
import { contentIdOf } from '../common/merkle.ts'
import { SwarmMembersResponse, type TransferBody } from '../common/schemas.ts'
import { Cluster, type TestPeer } from './cluster.ts'
import { Gate, type Habits, HostileProvider, JumpingClock, PIECE, pausingAfter } from './hostile-provider.fixture.ts'
import { begin, type Watched } from './swarm.fixture.ts'

const PIECES = 8
/** Only root can make file systems of a given size. */
const ROOT = process.getuid?.() === 0

const cluster = new Cluster({ leaseMs: 60_000 })
let source: HostileProvider
let count = 0

// Once, but within a test, where `expect.poll` is to be had.
beforeEach(async () => {
  if (source) return
  await cluster.startMaestro()
  source = await HostileProvider.start(undefined, cluster, 'Source')
})

afterAll(async () => {
  await source?.stop()
  await cluster.stop()
})

interface Case {
  readonly name: string
  readonly data: Buffer
  readonly part: string
  readonly journal: string
}

async function offered(habits: Habits): Promise<Case> {
  const name = `film-${++count}.mkv`
  const data = randomBytes(PIECES * PIECE - 5000)
  await source.offer({ [name]: data }, habits)
  const id = contentIdOf(data)
  return { name, data, part: `.p2p-${id}.part`, journal: `.p2p-${id}.journal` }
}

async function addTaker(t: TestContext, clock = new JumpingClock()): Promise<TestPeer> {
  const taker = await cluster.addPeer(`Taker-${count}`, { reserve_bytes: 0 }, { clock })
  t.onTestFinished(() => taker.stop())
  return taker
}

/** A taker on a file system of so many bytes. */
async function takerOn(t: TestContext, bytes: number, options = 'rw'): Promise<TestPeer> {
  const folder = join(cluster.folder, `Taker-${count}`, 'shared')
  mkdirSync(folder, { recursive: true })
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes},${options}`, 'tmpfs', folder])
  t.onTestFinished(() => void execFileSync('umount', [folder]))
  return addTaker(t)
}

/** Leaves no room for one byte more. */
function fill(path: string): void {
  const fd = openSync(path, 'w')
  try {
    for (let size = PIECE; size >= 1; size = Math.floor(size / 2))
      try {
        for (;;) writeSync(fd, Buffer.alloc(size))
      } catch {}
  } finally {
    closeSync(fd)
  }
}

async function failed(download: Watched): Promise<TransferBody> {
  await expect.poll(async () => (await download.look()).state, { interval: 20 }).toBe('failed')
  return download.last
}

/** The same command once more: it arrives, and fetches so many pieces. */
async function arrivesFor(taker: TestPeer, { name, data }: Case, pieces: number): Promise<void> {
  const before = source.asked.length
  await (await begin(taker, { file: name })).is('done')
  expect(taker.read(name).equals(data)).toBe(true)
  expect(source.asked.length - before).toBe(pieces)
  expect(readdirSync(taker.folder).filter((entry) => entry.startsWith('.p2p-') && !entry.endsWith('.lock'))).toEqual([])
}

describe.skipIf(!ROOT)("the taker's disk", () => {
  for (const n of [0, 4, PIECES - 1])
    test(`is full after ${n} pieces: it says so, keeps them, and later fetches only the rest`, async (t) => {
      const gate = new Gate()
      const film = await offered(pausingAfter(n, gate))
      const taker = await takerOn(t, (PIECES + 4) * PIECE)
      const download = await begin(taker, { file: film.name })
      await expect.poll(() => source.asked.length, { interval: 10 }).toBeGreaterThan(n)
      await download.has(n * PIECE)
      fill(taker.path('.ballast'))
      gate.open()
      const { error } = await failed(download)
      expect(error).toMatchObject({ code: 'unavailable', reason: 'disk_full' })
      expect(error!.message).toMatch(/disk is full|no room/)
      expect(existsSync(taker.path(film.name))).toBe(false)
      expect(existsSync(taker.path(film.part))).toBe(n > 0)
      rmSync(taker.path('.ballast'))
      await arrivesFor(taker, film, PIECES - n)
    })

  test('has no room from the start: it says so before anything is fetched', async (t) => {
    const film = await offered({})
    const taker = await takerOn(t, (PIECES / 2) * PIECE)
    const { error } = await failed(await begin(taker, { file: film.name }))
    expect(error).toMatchObject({ code: 'unavailable', reason: 'disk_full' })
    expect(error!.message).toMatch(/no room for \d+ bytes in .*: \d+ are free/)
    expect(source.asked).toEqual([])
    expect(readdirSync(taker.folder).filter((entry) => entry.includes('.part'))).toEqual([])
  })

  test('is read-only: it says so before anything is fetched', async (t) => {
    const film = await offered({})
    const taker = await takerOn(t, PIECE, 'ro')
    const { error } = await failed(await begin(taker, { file: film.name }))
    expect(error).toMatchObject({ code: 'forbidden', message: expect.stringContaining('read-only') })
    expect(source.asked).toEqual([])
  })
})

test('a shared folder that is removed in the middle ends the download, not the agent', async (t) => {
  const gate = new Gate()
  const film = await offered(pausingAfter(3, gate))
  const taker = await addTaker(t)
  const download = await begin(taker, { file: film.name })
  await download.has(3 * PIECE)
  rmSync(taker.folder, { recursive: true })
  gate.open()
  const { error } = await failed(download)
  expect(error!.message).toMatch(/removed|not there any more/)
  mkdirSync(taker.folder)
  const again = await begin(taker, { file: film.name })
  await again.is('done')
  expect(taker.read(film.name).equals(film.data)).toBe(true)
})

describe('the partial file, changed behind our back while it runs,', () => {
  const half = 2 * PIECE + 100

  test.for<[string, (part: string) => void]>([
    ['cut to nothing', (part) => truncateSync(part, 0)],
    ['cut in the middle', (part) => truncateSync(part, half)],
    ['grown', (part) => appendFileSync(part, randomBytes(1000))],
  ])('%s: the file is right in the end', async ([, change], t) => {
    const { taker, film, download, gate } = await under(t, 3)
    change(taker.path(film.part))
    gate.open()
    await download.is('done')
    expect(taker.read(film.name).equals(film.data)).toBe(true)
  })

  test.for<[string, (part: string) => void]>([
    ['removed', (part) => rmSync(part)],
    [
      'replaced',
      (part) => {
        writeFileSync(`${part}.new`, randomBytes(PIECES * PIECE - 5000))
        renameSync(`${part}.new`, part)
      },
    ],
  ])('%s: it says so, publishes nothing, and arrives when it is asked for again', async ([, change], t) => {
    const { taker, film, download, gate } = await under(t, 3)
    change(taker.path(film.part))
    gate.open()
    const { error } = await failed(download)
    expect(error).toMatchObject({
      code: 'conflict',
      message: expect.stringMatching(/partial file was (removed|replaced)/),
    })
    expect(existsSync(taker.path(film.name))).toBe(false)
    await arrivesFor(taker, film, PIECES)
  })

  test('overwritten a minute before its end: the file is right in the end', async (t) => {
    const { taker, film, download, gate, clock } = await under(t, 3)
    overwrite(taker.path(film.part), half)
    clock.jump(61_000)
    gate.open()
    await download.is('done')
    expect(taker.read(film.name).equals(film.data)).toBe(true)
  })

  test('overwritten, and asked for by another: nobody gets a wrong byte, and the file is right in the end', async (t) => {
    const { taker, film, download, gate, clock } = await under(t, 3, 'Other')
    overwrite(taker.path(film.part), half)
    // What was verified just now is served as it is.
    clock.jump(10_000)
    const other = await cluster.addPeer('Other')
    const second = await begin(other, { file: film.name })
    // What it can have of the first taker are the two pieces that are right; the third is missing there, too.
    await second.has(2 * PIECE)
    await expect.poll(() => held(taker, film), { interval: 10 }).toBe(2)
    gate.open()
    for (const done of [download, second]) {
      await done.is('done')
      expect(done.peer.read(film.name).equals(film.data)).toBe(true)
      expect(done.last.providers.filter(({ state }) => state === 'banned')).toEqual([])
    }
    await other.stop()
  })

  async function held(taker: TestPeer, { data }: Case): Promise<number | undefined> {
    const { peers } = await taker.rest.call('GET', `/swarms/${contentIdOf(data)}`, SwarmMembersResponse)
    return peers.find(({ peer }) => peer === taker.id)?.have
  }

  function overwrite(path: string, at: number): void {
    const fd = openSync(path, 'r+')
    writeSync(fd, randomBytes(1000), 0, 1000, at)
    closeSync(fd)
  }

  /** A download of which so many pieces are here; `without` gets nothing from the source before the gate opens. */
  async function under(t: TestContext, n: number, without?: string) {
    const gate = new Gate()
    const film = await offered({
      ...pausingAfter(n, gate),
      greet: async (talk) => {
        if (talk.taker === without) await gate.passed
        talk.have()
      },
    })
    const clock = new JumpingClock()
    const taker = await addTaker(t, clock)
    const download = await begin(taker, { file: film.name })
    await download.has(n * PIECE)
    return { taker, film, download, gate, clock }
  }
})
