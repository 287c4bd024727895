import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../common/clock.ts'
import type { FileName } from '../../common/ids.ts'
import { EMPTY_ID, HASH_SIZE, type Manifest, MIN_PIECE_SIZE, manifestOf } from '../../common/merkle.ts'
import { patternOf } from '../transfer/transfer.fixture.ts'
import { Uploader } from '../transfer/uploader.ts'
import { RpcClients } from './client.ts'
import { contentIdToWire, manifestToWire, TRANSFER_SERVICE } from './codec.ts'
import { type Push, type PushResult, pushFile } from './push.ts'
import { RawClient, RpcPeer, type RpcPeerOptions, startHasher } from './rpc.fixture.ts'

const hasher = startHasher()
const film = patternOf(20 * MIN_PIECE_SIZE + 99)
const cleanups: (() => void | Promise<void>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})
afterAll(() => hasher.close())

async function peer(options?: RpcPeerOptions): Promise<RpcPeer> {
  const started = await RpcPeer.start('P1', hasher, options)
  cleanups.push(() => started.stop())
  return started
}

interface Tampering extends Partial<Push> {
  signal?: AbortSignal
}

function push(to: RpcPeer, bytes: Buffer, { signal, ...change }: Tampering = {}): Promise<PushResult> {
  const clients = new RpcClients()
  cleanups.push(() => clients.close())
  const offer: Push = {
    filename: 'film.mkv' as FileName,
    manifest: manifestOf(bytes),
    reader: {
      read: async (into, position) => {
        bytes.copy(into, 0, position)
      },
    },
    dummy: false,
    ...change,
  }
  const uploader = new Uploader({ clock: systemClock }, { stallMs: 2000 })
  return pushFile({ clients, uploader }, to.target, offer, signal ?? new AbortController().signal)
}

describe('a push', () => {
  test.each([
    ['no byte', 0],
    ['one byte', 1],
    ['5 MiB with an odd tail', film.length],
  ])('of %s lands whole', async (_, size) => {
    const p1 = await peer()
    const sent: number[] = []
    const data = film.subarray(0, size)
    const result = await push(p1, data, { onProgress: (bytes) => sent.push(bytes) })
    expect(result).toEqual({ message: 'stored "film.mkv"', bytes: size, simulated: false })
    expect(readFileSync(p1.landing.path('film.mkv')).equals(data)).toBe(true)
    if (size > 0) expect(sent.at(-1)).toBe(size)
  })

  test('that fails by a fault of the other side is told no more of it', async () => {
    const p1 = await peer()
    p1.landing.openPartial = () => Promise.reject(new Error('EIO: i/o error, open /home/somebody/shared'))
    const failure = await push(p1, film).catch((error) => error)
    expect(failure).toMatchObject({ code: 'internal' })
    expect(failure.message).not.toContain('/home/somebody')
  })

  test('in dummy mode moves no byte', async () => {
    const p1 = await peer()
    const result = await push(p1, film, {
      dummy: true,
      reader: { read: () => Promise.reject(new Error('nothing is to be read')) },
    })
    expect(result).toEqual({ message: 'dummy: would have stored "film.mkv"', bytes: film.length, simulated: true })
    expect(p1.landing.existing('film.mkv' as FileName)).toBeUndefined()
  })

  test('to a peer in dummy mode is a simulation, and said to be one', async () => {
    const p1 = await peer({ dummy: true })
    const reader = { read: () => Promise.reject(new Error('nothing is to be read')) }
    const result = await push(p1, film, { reader })
    expect(result).toEqual({ message: 'dummy: would have stored "film.mkv"', bytes: film.length, simulated: true })
    expect(p1.landing.existing('film.mkv' as FileName)).toBeUndefined()
  })

  test('resumes: what arrived before is not sent again', async () => {
    const p1 = await peer()
    const cancel = new AbortController()
    const onProgress = (bytes: number) => bytes > 10 * MIN_PIECE_SIZE && cancel.abort()
    await expect(push(p1, film, { onProgress, signal: cancel.signal })).rejects.toMatchObject({ code: 'cancelled' })
    await expect.poll(() => p1.landing.open.size).toBe(0)
    const { bytes } = await push(p1, film)
    expect(bytes).toBeLessThan(film.length)
    expect(readFileSync(p1.landing.path('film.mkv')).equals(film)).toBe(true)
  })

  test('of what is there already is done at once', async () => {
    const p1 = await peer()
    await push(p1, film)
    expect(await push(p1, film)).toEqual({ message: '"film.mkv" is already here', bytes: 0, simulated: false })
  })

  test('never replaces other content', async () => {
    const p1 = await peer()
    await push(p1, film)
    await expect(push(p1, patternOf(500, 9))).rejects.toMatchObject({ code: 'conflict' })
    expect(readFileSync(p1.landing.path('film.mkv')).equals(film)).toBe(true)
  })

  test('to a peer that takes no uploads is refused', async () => {
    await expect(push(await peer({ accept: false }), film)).rejects.toMatchObject({
      code: 'forbidden',
      message: 'this peer takes no uploads',
    })
  })

  test('is not cut while its receiver publishes, however long that takes', async () => {
    const p1 = await peer({ idleMs: 100 })
    const openPartial = p1.landing.openPartial.bind(p1.landing)
    p1.landing.openPartial = async (manifest) => {
      const file = await openPartial(manifest)
      const { publish } = file
      file.publish = async (name) => {
        await sleep(400)
        await publish(name)
      }
      return file
    }
    expect((await push(p1, film)).message).toBe('stored "film.mkv"')
  })

  test('is not cut while a limit of its receiver lets nothing be asked for', async () => {
    const p1 = await peer({ idleMs: 100 })
    const run = p1.downloader.run.bind(p1.downloader)
    // The first piece may be asked for after 650 ms.
    p1.downloader.run = (download, signal) => run({ ...download, rate: () => 400_000 }, signal)
    expect((await push(p1, film.subarray(0, MIN_PIECE_SIZE))).message).toBe('stored "film.mkv"')
  })

  test('beyond the number that the peer takes at a time is refused', async () => {
    const p1 = await peer({ maxPushes: 1 })
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    const slow = push(p1, film, {
      reader: {
        read: async (into, position) => {
          await held
          film.copy(into, 0, position)
        },
      },
    })
    await expect.poll(() => p1.landing.open.size).toBe(1)
    await expect(push(p1, patternOf(10), { filename: 'other' as FileName })).rejects.toMatchObject({ code: 'limited' })
    release()
    expect((await slow).bytes).toBe(film.length)
  })

  test('of a file that changes meanwhile ends with that reason, and nothing is stored', async () => {
    const p1 = await peer()
    const { NetworkError } = await import('../../common/errors.ts')
    const reader = { read: () => Promise.reject(new NetworkError('conflict', 'the file changed meanwhile')) }
    await expect(push(p1, film, { reader })).rejects.toMatchObject({ code: 'conflict' })
    await expect.poll(() => p1.landing.open.size).toBe(0)
    expect(p1.landing.existing('film.mkv' as FileName)).toBeUndefined()
  })
})

describe('a hostile push', () => {
  const wrongBytes = { read: async (into: Uint8Array) => void into.fill(1) }

  test.each<[string, Tampering, RegExp]>([
    ['with a name that leaves the folder', { filename: '../x' as FileName }, /climbs out/],
    ['with an absolute name', { filename: '/etc/passwd' as FileName }, /absolute/],
    ['with wrong bytes', { reader: wrongBytes }, /wrong bytes/],
    ['with a false manifest', { manifest: falsified({ hashes: Buffer.alloc(21 * HASH_SIZE) }) }, /false manifest/],
    ['with an impossible size', { manifest: falsified({ size: 2 ** 50 }) }, /false manifest/],
    ['with the id of an empty file', { manifest: falsified({ id: EMPTY_ID }) }, /false manifest/],
  ])('%s is refused, and nothing is stored', async (_, tampering, message) => {
    const p1 = await peer()
    await expect(push(p1, film, tampering)).rejects.toThrow(message)
    expect(p1.landing.existing('film.mkv' as FileName)).toBeUndefined()
    expect(p1.landing.open.size).toBe(0)
  })

  test('of more than the disk has room for is refused before a byte is sent', async () => {
    const p1 = await peer()
    p1.landing.room = film.length - 1
    const reader = { read: () => Promise.reject(new Error('nothing is to be read')) }
    await expect(push(p1, film, { reader })).rejects.toMatchObject({ code: 'unavailable', message: /no room/ })
  })

  test('whose offer is larger than any manifest is refused before it is read', async () => {
    const p1 = await peer()
    const client = new RawClient(p1.target)
    cleanups.push(() => client.close())
    const call = client.bytes(TRANSFER_SERVICE.Push.path)
    call.write(Buffer.alloc(10 * 1024 * 1024))
    call.resume()
    expect(await call.status).toMatchObject({ code: 8, details: expect.stringContaining('larger than max') })
  })

  test.each([
    ['a refusal', { kind: 'refusal', refusal: { code: 'internal', message: 'no' } } as const],
    ['an offer of nothing', { kind: 'offer', offer: { filename: 'x', manifest: null, dummy: false } } as const],
    [
      'an id that is none',
      {
        kind: 'offer',
        offer: {
          filename: 'x',
          manifest: {
            content_id: contentIdToWire(EMPTY_ID).subarray(1),
            size: 0,
            piece_size: 0,
            hashes: Buffer.alloc(0),
          },
          dummy: false,
        },
      } as const,
    ],
  ])('that begins with %s gets a clear answer', async (_, message) => {
    const client = new RawClient((await peer()).target)
    cleanups.push(() => client.close())
    const call = client.bytes(TRANSFER_SERVICE.Push.path)
    call.write(TRANSFER_SERVICE.Push.requestSerialize(message))
    const answers = []
    for await (const answer of call) answers.push(TRANSFER_SERVICE.Push.responseDeserialize(answer as Buffer))
    expect(answers).toMatchObject([{ kind: 'result', result: { ok: false, code: 'invalid' } }])
  })

  test('to a peer that takes none is refused before anything of it is read', async () => {
    const client = new RawClient((await peer({ accept: false })).target)
    cleanups.push(() => client.close())
    const call = client.bytes(TRANSFER_SERVICE.Push.path)
    const [answer] = await once(call, 'data')
    expect(TRANSFER_SERVICE.Push.responseDeserialize(answer)).toMatchObject({ result: { code: 'forbidden' } })
    expect((await call.status).code).toBe(0)
  })

  test.each([
    [
      'takers without number',
      () => Buffer.concat([Buffer.from([0x2a, 0x80, 0x80, 0x20]), Buffer.alloc(524_288, '0a00', 'hex')]),
    ],
    ['more than an offer', () => Buffer.alloc(10 * 1024 * 1024)],
  ])('that begins with %s is cut', async (_, message) => {
    const client = new RawClient((await peer()).target)
    cleanups.push(() => client.close())
    const call = client.bytes(TRANSFER_SERVICE.Push.path)
    call.resume()
    call.write(message())
    expect((await call.status).code).not.toBe(0)
  })

  test('whose pusher tells of the same pieces again and again is cut', async () => {
    const client = new RawClient((await peer()).target)
    cleanups.push(() => client.close())
    const call = client.bytes(TRANSFER_SERVICE.Push.path)
    const { requestSerialize, responseDeserialize } = TRANSFER_SERVICE.Push
    const offer = { filename: 'film.mkv', manifest: manifestToWire(manifestOf(film)), dummy: false }
    call.write(requestSerialize({ kind: 'offer', offer }))
    for (let i = 0; i < 1000; i++) call.write(requestSerialize({ kind: 'have', have: { pieces: [0, 21] } }))
    const answers: unknown[] = []
    for await (const answer of call) answers.push(responseDeserialize(answer as Buffer))
    expect(answers.at(-1)).toMatchObject({ result: { ok: false, code: 'corrupt' } })
  })

  test.each<[string, number[]]>([
    ['nothing', []],
    ['of a part only', [0, 3, 4, 17]],
  ])('that offers and then tells of %s frees its place', async (_, pieces) => {
    const p1 = await peer({ idleMs: 100, maxPushes: 1 })
    const client = new RawClient(p1.target)
    cleanups.push(() => client.close())
    const call = client.bytes(TRANSFER_SERVICE.Push.path)
    call.resume()
    const offer = { filename: 'film.mkv', manifest: manifestToWire(manifestOf(film)), dummy: true }
    call.write(TRANSFER_SERVICE.Push.requestSerialize({ kind: 'offer', offer }))
    if (pieces.length > 0) call.write(TRANSFER_SERVICE.Push.requestSerialize({ kind: 'have', have: { pieces } }))
    expect((await call.status).code).not.toBe(0)
    await expect
      .poll(() => push(p1, patternOf(10), { filename: 'other' as FileName }).catch(({ code }) => code))
      .toMatchObject({ bytes: 10 })
  })

  test('that stalls frees its place', async () => {
    const p1 = await peer({ stallMs: 100, maxPushes: 1 })
    const reader = { read: () => new Promise<void>(() => {}) }
    const stalled = push(p1, film, { reader })
    stalled.catch(() => {})
    await expect.poll(() => p1.landing.open.size).toBe(1)
    await expect.poll(() => p1.landing.open.size).toBe(0)
    expect((await push(p1, patternOf(10), { filename: 'other' as FileName })).bytes).toBe(10)
  })
})

function falsified(change: Partial<Manifest>): Manifest {
  return { ...manifestOf(film), ...change }
}
