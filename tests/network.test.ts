import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { contentIdOf } from '../common/merkle.ts'
import { startCluster } from './cluster.ts'

/** The hidden files that a download leaves on its way. */
const partials = (folder: string) => readdirSync(folder).filter((name) => name.startsWith('.'))

describe('downloading', () => {
  test('brings files of any size, and offers them onward', async (t) => {
    const cluster = await startCluster(t)
    const [p1, p2] = await cluster.addPeers('P1', 'P2')
    for (const size of [0, 1, 16_384, 262_144, 262_145, 5_000_001]) {
      const data = randomBytes(size)
      const name = `film-${size}.mkv`
      await p1.share(name, data)
      const ended = await p2.download(name)
      expect(p2.read(name).equals(data)).toBe(true)
      expect(ended).toMatchObject({ via: 'maestro', bytes: size, id: contentIdOf(data), mode: 'real' })
      await expect.poll(() => cluster.providers(name)).toEqual(['P1', 'P2'])
    }
    expect(partials(p2.folder)).toEqual([])
  })

  test('keeps the folders of a name', async (t) => {
    const cluster = await startCluster(t)
    const [p1, p2] = await cluster.addPeers('P1', 'P2')
    await p1.share('lectures/week 1/notas á.txt', 'hello')
    await p2.download('lectures/week 1/notas á.txt')
    expect(p2.read('lectures/week 1/notas á.txt').toString()).toBe('hello')
  })

  test('in dummy mode goes through the whole conversation and writes nothing', async (t) => {
    const cluster = await startCluster(t)
    const [p1, p2] = await cluster.addPeers('P1', 'P2')
    await p1.share('film.mkv', randomBytes(1_000_000))
    const ended = await p2.transfer({ file: 'film.mkv', mode: 'dummy' })
    expect(ended).toMatchObject({ state: 'simulated', mode: 'dummy', bytes: 1_000_000 })
    expect(readdirSync(p2.folder)).toEqual([])
  })

  test('from a peer that is in dummy mode is reported as simulated, and writes nothing', async (t) => {
    const cluster = await startCluster(t)
    const p1 = await cluster.addPeer('P1', { transfer: 'dummy' })
    const p2 = await cluster.addPeer('P2')
    await p1.share('film.mkv', randomBytes(300_000))
    const ended = await p2.transfer({ file: 'film.mkv' })
    expect(ended.state).toBe('simulated')
    expect(readdirSync(p2.folder)).toEqual([])
  })

  test('never replaces a file of the same name and other content', async (t) => {
    const cluster = await startCluster(t)
    const [p1, p2] = await cluster.addPeers('P1', 'P2')
    await p1.share('notes.txt', 'theirs')
    await p2.share('mine/notes.txt', 'mine')
    const ended = await p2.transfer({ id: contentIdOf(Buffer.from('theirs')), as: 'mine/notes.txt' })
    expect(ended).toMatchObject({ state: 'failed', error: { code: 'conflict' } })
    expect(p2.read('mine/notes.txt').toString()).toBe('mine')
    expect(partials(p2.folder)).toEqual([])
  })

  test('of a name with two contents tells the choices, and the content id picks one', async (t) => {
    const cluster = await startCluster(t)
    const [p1, p2, p3] = await cluster.addPeers('P1', 'P2', 'P3')
    await p1.share('notes.txt', 'one')
    await p2.share('notes.txt', 'two')
    const ambiguous = await p3.transfer({ file: 'notes.txt' })
    expect(ambiguous).toMatchObject({ state: 'failed', error: { code: 'conflict' } })
    const ids = (ambiguous.error!.choices as { id: string }[]).map((choice) => choice.id).sort()
    expect(ids).toEqual([contentIdOf(Buffer.from('one')), contentIdOf(Buffer.from('two'))].sort())
    expect(await p3.transfer({ id: contentIdOf(Buffer.from('two')) })).toMatchObject({ state: 'done' })
    expect(p3.read('notes.txt').toString()).toBe('two')
  })

  test('of what nobody has fails as not found', async (t) => {
    const cluster = await startCluster(t)
    const p1 = await cluster.addPeer('P1')
    expect(await p1.transfer({ file: 'nothing' })).toMatchObject({ state: 'failed', error: { code: 'not_found' } })
  })

  test('goes on with the next provider where the first one is gone', async (t) => {
    const cluster = await startCluster(t)
    const [p1, p2, p3] = await cluster.addPeers('P1', 'P2', 'P3')
    const data = randomBytes(3_000_000)
    await p1.share('film.mkv', data)
    await p2.share('film.mkv', data)
    // Still in the directory, but its file is not what it says.
    writeFileSync(p1.path('film.mkv'), randomBytes(3_000_000))
    await p3.download('film.mkv')
    expect(p3.read('film.mkv').equals(data)).toBe(true)
  })

  test('200 at once from one agent all succeed, and its REST answers meanwhile', { timeout: 60_000 }, async (t) => {
    const cluster = await startCluster(t)
    const [p1, p2] = await cluster.addPeers('P1', 'P2')
    const files = Array.from({ length: 200 }, (_, i) => ({ name: `f${i}.bin`, data: randomBytes(300_000 + i) }))
    for (const { name, data } of files) writeFileSync(p1.path(name), data)
    await expect.poll(() => p1.agent.info().files, { timeout: 20_000 }).toBe(200)
    await expect.poll(() => cluster.providers('f199.bin')).toEqual(['P1'])
    const downloads = p2.transfers(
      files.map(({ name }) => ({ file: name })),
      50_000,
    )
    const begin = performance.now()
    expect(await p1.has('f0.bin')).toBe(true)
    expect(performance.now() - begin).toBeLessThan(2000)
    expect((await downloads).filter((ended) => ended.state !== 'done')).toEqual([])
    for (const { name, data } of files) expect(p2.read(name).equals(data)).toBe(true)
  })
})

describe('looking up', () => {
  test('asks the catalog, the Maestro, the primary and then the backup friend, and says which way it came', async (t) => {
    const cluster = await startCluster(t)
    const [p2, p3] = await cluster.addPeers('P2', 'P3')
    const p1 = await cluster.addPeer('P1', { friend_peer_primary: p2.url, friend_peer_backup: p3.url })
    await p1.share('one.txt', '1')
    await p2.share('two.txt', '2')
    await p3.share('three.txt', '3')

    expect(await p1.locate({ file: 'one.txt' })).toMatchObject({ via: 'local' })
    expect(await p1.locate({ file: 'two.txt' })).toMatchObject({ via: 'maestro', peers: [{ peer: 'P2' }] })
    expect(await p1.locate({ id: contentIdOf(Buffer.from('3')) })).toMatchObject({
      via: 'maestro',
      peers: [{ peer: 'P3', file: 'three.txt' }],
    })
    expect(await p1.locate({ q: 'THRE' })).toMatchObject({ peers: [{ file: 'three.txt' }] })

    await cluster.stopMaestro()
    const primary = await p1.locate({ file: 'two.txt' })
    expect(primary.via).toBe('friends')
    // Skipped, where the session has found out before this lookup did.
    expect(primary.steps.map((s) => [s.strategy, s.outcome])).toEqual([
      ['local', 'nothing'],
      ['maestro', expect.stringMatching(/unreachable|skipped/)],
      ['friends', 'found'],
    ])
    expect(primary.network).toMatchObject({ level: expect.stringMatching(/ring|neighbours|friends/) })
    expect(await p1.locate({ q: 'thr' })).toMatchObject({ via: 'friends', peers: [{ file: 'three.txt' }] })
    await p1.download('two.txt')

    await p2.stop()
    const backup = await p1.locate({ file: 'three.txt' })
    expect(backup.steps.map((s) => s.outcome)).toEqual([
      'nothing',
      'skipped',
      expect.stringMatching(/unreachable|skipped/),
      'found',
    ])
    await p1.download('three.txt')
    expect(p1.read('three.txt').toString()).toBe('3')
  })

  test('a Maestro that comes back, directory and all or empty, has everyone again', async (t) => {
    const cluster = await startCluster(t)
    const [p1, p2] = await cluster.addPeers('P1', 'P2')
    await p1.share('one.txt', '1')
    await cluster.stopMaestro()
    await cluster.startMaestro()
    expect(await cluster.providers('one.txt')).toEqual(['P1'])
    expect(p1.agent.info().maestro).toBe('registered')

    await cluster.stopMaestro()
    for (const suffix of ['', '-wal', '-shm']) rmSync(`${cluster.folder}/maestro.db${suffix}`, { force: true })
    await cluster.startMaestro()
    await expect.poll(() => cluster.providers('one.txt')).toEqual(['P1'])
    await p2.download('one.txt')
  })

  test('a peer that leaves is gone at once; a network without a Maestro goes by friends', async (t) => {
    const cluster = await startCluster(t, { maestro: false })
    const p2 = await cluster.addPeer('P2')
    const p1 = await cluster.addPeer('P1')
    await p2.share('two.txt', '2')
    // It knows nobody yet: that is no knowledge that nobody has it.
    expect(await p1.transfer({ file: 'two.txt' })).toMatchObject({ state: 'failed', error: { code: 'unavailable' } })
    await p1.rest.send('POST', '/friends', { body: { url: p2.url } }).then((r) => r.body.dump())
    expect(await p1.transfer({ file: 'two.txt' })).toMatchObject({ state: 'done', via: 'friends' })
    expect(p1.agent.info().maestro).toBe('none')
  })
})

describe('announcing', () => {
  test('follows what happens on the disk', async (t) => {
    const cluster = await startCluster(t)
    const p1 = await cluster.addPeer('P1')
    await p1.share('a/b/c/one.txt', '1')
    renameSync(p1.path('a/b/c/one.txt'), p1.path('a/two.txt'))
    await expect.poll(() => cluster.providers('a/two.txt')).toEqual(['P1'])
    await expect.poll(() => cluster.providers('a/b/c/one.txt')).toEqual([])
    rmSync(p1.path('a'), { recursive: true })
    await expect.poll(() => cluster.providers('a/two.txt')).toEqual([])
  })

  test('a peer that stops is withdrawn; one that starts again with its folder is back', async (t) => {
    const cluster = await startCluster(t)
    const p1 = await cluster.addPeer('P1')
    await p1.share('one.txt', '1')
    await p1.stop()
    expect(await cluster.providers('one.txt')).toEqual([])
    await p1.start()
    await expect.poll(() => cluster.providers('one.txt')).toEqual(['P1'])
    expect(existsSync(p1.path('one.txt'))).toBe(true)
  })
})
