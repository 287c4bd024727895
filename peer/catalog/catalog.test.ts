import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import { contentIdOf, manifestOf } from '../../common/merkle.ts'
import type { Hasher } from '../hashing/hasher.ts'
import { CatalogFixture, fileName, idsOf, sharedHasher, useSharedHasher } from './catalog.fixture.ts'
import type { CatalogEvent } from './change-feed.ts'

useSharedHasher()
const isRoot = process.getuid?.() === 0
const soon = { timeout: 10_000, interval: 10 }

async function started(
  files: Record<string, string | Uint8Array> = {},
  ...rest: ConstructorParameters<typeof CatalogFixture>
) {
  const fixture = new CatalogFixture(...rest)
  for (const [name, data] of Object.entries(files)) fixture.write(name, data)
  const catalog = await fixture.start()
  await catalog.refresh()
  return { fixture, catalog }
}

/** The bytes that the catalog serves for a content. */
async function serve(catalog: CatalogFixture['catalog'], data: string): Promise<string> {
  const reader = catalog.open(contentIdOf(Buffer.from(data)))
  try {
    const into = Buffer.alloc(reader.size)
    await reader.read(into, 0)
    return into.toString()
  } finally {
    reader.close()
  }
}

/** A hasher that lets the test act in the middle of hashing a file. */
function interrupted(during: (size: number) => void): Hasher {
  return {
    hashFile: async (fd, size, signal, onProgress) => {
      const manifest = await sharedHasher().hashFile(fd, size, signal, onProgress)
      during(size)
      return manifest
    },
    verifyFile: (...args) => sharedHasher().verifyFile(...args),
    commitPiece: (...args) => sharedHasher().commitPiece(...args),
    close: async () => {},
  }
}

describe('what stands under a name', () => {
  test('is what the disk says, even where the change was not noticed yet', async () => {
    const { fixture, catalog } = await started({ 'a.txt': 'one', 'b.txt': 'two', 'c.txt': 'three' })
    const [a, b, c] = ['a.txt', 'b.txt', 'c.txt'].map(fileName)
    unlinkSync(join(fixture.root, 'a.txt'))
    fixture.write('b.txt', 'other')
    expect(catalog.existing(a!)).toBeUndefined()
    expect(catalog.existing(b!)).toBe('unknown')
    expect(catalog.existing(c!)).toBe(contentIdOf(Buffer.from('three')))
    expect(catalog.get(a!)).toBeUndefined()
    expect(catalog.get(b!)).toBeUndefined()
  })
})

describe('the catalog', () => {
  test('has every file below the shared folder under its relative path, with its content id', async () => {
    const files = {
      'a.txt': 'A',
      'b/c/d.txt': 'D',
      empty: '',
      'b/copy of a': 'A',
      'ñandú/música.mp3': 'x'.repeat(300_000),
    }
    const { fixture, catalog } = await started(files)
    expect(fixture.shared()).toEqual(idsOf(files))
    expect(catalog.size).toBe(5)
    expect(catalog.bytes).toBe(300_003)
    const a = contentIdOf(Buffer.from('A'))
    expect(catalog.byId(a).map(({ name }) => name)).toEqual(['a.txt', 'b/copy of a'])
    expect(catalog.byId(a)[0]?.name).toBe('a.txt')
    expect(catalog.manifest(a)).toEqual(manifestOf(Buffer.from('A')))
    expect(catalog.get(fileName('b/c/d.txt'))).toMatchObject({ size: 1, path: 'b/c/d.txt' })
    expect(catalog.search('MUSICA', 10).map(({ name }) => name)).toEqual(['ñandú/música.mp3'])
    expect(catalog.list({ limit: 2 }).map(({ name }) => name)).toEqual(['a.txt', 'b/c/d.txt'])
    expect(catalog.list({ after: 'b/c/d.txt', limit: 1 }).map(({ name }) => name)).toEqual(['b/copy of a'])
    expect(await serve(catalog, 'D')).toBe('D')
    expect(catalog.scanning).toBe(false)
  })

  test('does not know what it does not share', async () => {
    const { catalog } = await started({ a: 'A' })
    const other = contentIdOf(Buffer.from('other'))
    expect(catalog.manifest(other)).toBeUndefined()
    expect(catalog.byId(other)).toEqual([])
    expect(() => catalog.open(other)).toThrow(expect.objectContaining({ code: 'not_found' }))
  })

  test('tells its changes one revision after another, and their sum is its content', async () => {
    const fixture = new CatalogFixture()
    const catalog = await fixture.start()
    const events: CatalogEvent[] = []
    const stop = catalog.onChange((event) => events.push(event))
    fixture.write('a', '1')
    fixture.write('b', '2')
    await catalog.refresh()
    fixture.write('a', '3')
    renameSync(fixture.path('b'), fixture.path('c'))
    await catalog.refresh()
    stop()
    fixture.write('unheard')
    await catalog.refresh()
    const sum = new Map<string, string>()
    let revision = 1
    for (const { from, to, added, removed } of events) {
      expect([from, to]).toEqual([revision, ++revision])
      for (const name of removed) expect(sum.delete(name)).toBe(true)
      for (const { name, id } of added) sum.set(name, id as string)
      expect(removed.some((name) => added.some((entry) => entry.name === name))).toBe(false)
    }
    expect(Object.fromEntries(sum)).toEqual(idsOf({ a: '3', c: '2' }))
    expect(catalog.revision).toBeGreaterThan(revision)
  })

  test('goes on when a listener fails', async () => {
    const { fixture, catalog } = await started()
    catalog.onChange(() => {
      throw new Error('listener')
    })
    fixture.write('a', 'A')
    await catalog.refresh()
    expect(fixture.shared()).toEqual(idsOf({ a: 'A' }))
  })

  test('refuses to start where its own database would be shared', async () => {
    const fixture = new CatalogFixture({}, {}, mkdtempSync(join(tmpdir(), 'catalog-')))
    onTestFinished(() => rmSync(fixture.root, { recursive: true }))
    Object.assign(fixture, { state: join(fixture.root, 'state') })
    await expect(fixture.start()).rejects.toMatchObject({
      code: 'invalid',
      message: expect.stringContaining('state_dir'),
    })
  })
})

describe('watching', () => {
  test('notices additions, changes and removals without being asked', async () => {
    const { fixture } = await started({ stays: 'S', changes: '1', goes: 'G' })
    fixture.write('new', 'N')
    fixture.write('changes', '22')
    unlinkSync(fixture.path('goes'))
    await expect.poll(() => fixture.shared(), soon).toEqual(idsOf({ stays: 'S', changes: '22', new: 'N' }))
  })

  test('loses nothing of nested folders that are made and filled at once', async () => {
    const { fixture } = await started()
    const expected: Record<string, string> = {}
    for (let folder = 0; folder < 4; folder++)
      for (let file = 0; file < 50; file++) expected[`a${folder}/b/c/d/file ${file}`] = `${folder} ${file}`
    for (const [name, data] of Object.entries(expected)) fixture.write(name, data)
    await expect.poll(() => fixture.catalog.size, soon).toBe(200)
    expect(fixture.shared()).toEqual(idsOf(expected))
    fixture.write('a0/b/c/d/late', 'late')
    rmSync(fixture.path('a1'), { recursive: true })
    await expect.poll(() => fixture.catalog.size, soon).toBe(151)
  })

  test('follows a folder that is replaced by another of the same name', async () => {
    const { fixture } = await started({ 'dir/a': 'A', 'other/b': 'B' })
    renameSync(fixture.path('dir'), fixture.path('old'))
    renameSync(fixture.path('other'), fixture.path('dir'))
    await expect.poll(() => fixture.shared(), soon).toEqual(idsOf({ 'old/a': 'A', 'dir/b': 'B' }))
    fixture.write('dir/c', 'C')
    fixture.write('old/d', 'D')
    await expect
      .poll(() => fixture.shared(), soon)
      .toEqual(idsOf({ 'old/a': 'A', 'dir/b': 'B', 'dir/c': 'C', 'old/d': 'D' }))
  })

  test('copes with a folder that becomes a file and a file that becomes a folder', async () => {
    const { fixture } = await started({ 'x/y': 'Y', z: 'Z' })
    rmSync(fixture.path('x'), { recursive: true })
    fixture.write('x', 'X')
    unlinkSync(fixture.path('z'))
    fixture.write('z/w', 'W')
    await expect.poll(() => fixture.shared(), soon).toEqual(idsOf({ x: 'X', 'z/w': 'W' }))
  })

  test('is replaced by whole scans where the system grants no watches, and says so once', async () => {
    const { fixture } = await started(
      { 'a/x': 'X' },
      {
        watch: () => {
          throw Object.assign(new Error('no space'), { code: 'ENOSPC' })
        },
      },
      { rescanS: 0.05 },
    )
    fixture.write('a/y', 'Y')
    fixture.write('b/z', 'Z')
    await expect.poll(() => fixture.shared(), soon).toEqual(idsOf({ 'a/x': 'X', 'a/y': 'Y', 'b/z': 'Z' }))
    expect(fixture.lines.filter((line) => line.includes('max_user_watches'))).toHaveLength(1)
  })

  test('withdraws everything while the shared folder is gone, and has it again afterwards', async () => {
    const { fixture, catalog } = await started({ 'a/x': 'X', y: 'Y' })
    renameSync(fixture.root, `${fixture.root}.away`)
    await catalog.refresh()
    expect(catalog.size).toBe(0)
    expect(fixture.lines.join()).toContain('the shared folder is gone')
    renameSync(`${fixture.root}.away`, fixture.root)
    await catalog.refresh()
    expect(fixture.shared()).toEqual(idsOf({ 'a/x': 'X', y: 'Y' }))
    fixture.write('z', 'Z')
    await expect.poll(() => catalog.size, soon).toBe(3)
  })

  test('is not disturbed by hidden files', async () => {
    const { fixture, catalog } = await started({ a: 'A' })
    fixture.write('.hidden', 'H')
    fixture.write('.git/objects/x', 'H')
    fixture.write('b/.DS_Store', 'H')
    await catalog.refresh()
    expect(fixture.shared()).toEqual(idsOf({ a: 'A' }))
  })
})

describe('hashing', () => {
  test('happens once: a restart hashes nothing that has not changed', async () => {
    const { fixture, catalog } = await started({ a: 'A', 'b/c': 'C', changes: '1', goes: 'G' })
    expect(catalog.hashed).toBe(4)
    const { revision } = catalog
    await fixture.stop()
    fixture.write('changes', '22')
    unlinkSync(fixture.path('goes'))
    fixture.write('new', 'N')
    const again = await fixture.start()
    await again.refresh()
    expect(again.hashed).toBe(2)
    expect(fixture.shared()).toEqual(idsOf({ a: 'A', 'b/c': 'C', changes: '22', new: 'N' }))
    expect(again.revision).toBeGreaterThan(revision)
    expect((await fixture.restart()).hashed).toBe(0)
    await fixture.catalog.refresh()
    expect(fixture.catalog.hashed).toBe(0)
  })

  test('keeps the revision over a restart in which nothing changed, and serves at once', async () => {
    const { fixture, catalog } = await started({ a: 'A' })
    const { revision } = catalog
    await fixture.restart()
    expect(fixture.catalog.revision).toBe(revision)
    expect(await serve(fixture.catalog, 'A')).toBe('A')
  })

  test('waits until a file is left alone', async () => {
    const clock = new ManualClock()
    const { fixture, catalog } = await started({}, { clock }, { settleMs: 1000 })
    const later = (condition: () => boolean) =>
      expect
        .poll(() => {
          clock.advance(50)
          return condition()
        }, soon)
        .toBe(true)
    fixture.write('grows', 'begin')
    await later(() => catalog.unhashed === 1)
    const offered = clock.now()
    appendFileSync(fixture.path('grows'), ' end')
    await later(() => catalog.size === 1)
    expect(clock.now() - offered).toBeGreaterThanOrEqual(1000)
    expect(fixture.shared()).toEqual(idsOf({ grows: 'begin end' }))
    expect(catalog.hashed).toBe(1)
  })

  test('of a file that changes meanwhile is done again, and no wrong id is ever published', async () => {
    const ids = new Set<string>()
    const fixture = new CatalogFixture({
      hasher: interrupted((size) => {
        if (size === 6) fixture.write('a', 'changed while hashed')
      }),
    })
    fixture.write('a', 'before')
    const catalog = await fixture.start()
    catalog.onChange(({ added }) => {
      for (const { id } of added) ids.add(id as string)
    })
    await expect.poll(() => fixture.shared(), soon).toEqual(idsOf({ a: 'changed while hashed' }))
    expect([...ids]).toEqual([contentIdOf(Buffer.from('changed while hashed'))])
  })

  test('of a file that vanishes or is renamed meanwhile does no harm', async () => {
    const fixture = new CatalogFixture({
      hasher: interrupted((size) => {
        if (size === 1) rmSync(fixture.path('goes'), { force: true })
        if (size === 2 && readdirSync(fixture.root).includes('moves'))
          renameSync(fixture.path('moves'), fixture.path('moved'))
      }),
    })
    fixture.write('goes', '1')
    fixture.write('moves', '22')
    await fixture.start()
    await expect.poll(() => fixture.shared(), soon).toEqual(idsOf({ moved: '22' }))
  })

  test('goes on in the background while known files are served', async () => {
    let release = () => {}
    const gate = new Promise<void>((resolve) => {
      release = resolve
    })
    const slow: Hasher = {
      ...interrupted(() => {}),
      hashFile: async (fd, size, signal) => {
        if (size === 3) await gate
        return sharedHasher().hashFile(fd, size, signal)
      },
    }
    const { fixture } = await started({ known: 'K' }, { hasher: slow })
    fixture.write('slow', 'slo')
    await fixture.restart()
    const refreshed = fixture.catalog.refresh()
    await expect.poll(() => fixture.catalog.unhashed, soon).toBe(1)
    expect(fixture.shared()).toEqual(idsOf({ known: 'K' }))
    expect(await serve(fixture.catalog, 'K')).toBe('K')
    release()
    await refreshed
    expect(fixture.shared()).toEqual(idsOf({ known: 'K', slow: 'slo' }))
  })

  test('that fails skips the file with one warning, and tries again when all is scanned', async () => {
    let broken = true
    const { fixture, catalog } = await started(
      { bad: '1', good: '22' },
      {
        hasher: {
          ...interrupted(() => {}),
          hashFile: async (fd, size) => {
            if (size === 1 && broken) throw Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' })
            return sharedHasher().hashFile(fd, size)
          },
        },
      },
    )
    await catalog.refresh()
    expect(fixture.shared()).toEqual(idsOf({ good: '22' }))
    expect(fixture.lines.filter((line) => line.includes('can not be shared'))).toHaveLength(1)
    broken = false
    await catalog.refresh()
    expect(fixture.shared()).toEqual(idsOf({ bad: '1', good: '22' }))
  })

  test('does not begin for a file that is larger than a manifest can describe', async () => {
    const fixture = new CatalogFixture(
      {},
      {},
      process.platform === 'linux' ? mkdtempSync('/dev/shm/catalog-') : undefined,
    )
    onTestFinished(() => rmSync(fixture.root, { recursive: true, force: true }))
    fixture.write('huge', '')
    truncateSync(fixture.path('huge'), 2 ** 40 + 1)
    const catalog = await fixture.start()
    await catalog.refresh()
    expect(catalog.size).toBe(0)
    expect(fixture.lines.join()).toContain('larger than 1 TiB')
  })

  test('is stopped by stop, however much is left', async () => {
    const { fixture } = await started()
    fixture.write('huge', '')
    truncateSync(fixture.path('huge'), 200 * 2 ** 30)
    await expect.poll(() => fixture.catalog.unhashed, soon).toBe(1)
    await fixture.stop()
    expect(fixture.catalog.unhashed).toBe(0)
  })
})

describe('renaming', () => {
  const big = 'x'.repeat(100_000)

  test.each<[string, (path: (name: string) => string) => void, Record<string, string>]>([
    ['in one folder', (path) => renameSync(path('a'), path('b')), { b: big, 'dir/c': 'C' }],
    ['into another folder', (path) => renameSync(path('a'), path('dir/a')), { 'dir/a': big, 'dir/c': 'C' }],
    ['of a whole folder', (path) => renameSync(path('dir'), path('new')), { a: big, 'new/c': 'C' }],
    ['over another file', (path) => renameSync(path('a'), path('dir/c')), { 'dir/c': big }],
    [
      'of two files for each other',
      (path) => {
        renameSync(path('a'), path('tmp'))
        renameSync(path('dir/c'), path('a'))
        renameSync(path('tmp'), path('dir/c'))
      },
      { a: 'C', 'dir/c': big },
    ],
    ['by a second link', (path) => linkSync(path('a'), path('linked')), { a: big, linked: big, 'dir/c': 'C' }],
  ])('%s hashes nothing, while running and while down', async (_, change, expected) => {
    const { fixture, catalog } = await started({ a: big, 'dir/c': 'C' })
    const hashed = catalog.hashed
    change((name) => fixture.path(name))
    await expect.poll(() => fixture.shared(), soon).toEqual(idsOf(expected))
    // A new link touches the inode, which is looked at once more.
    const linked = 'linked' in expected
    if (!linked) expect(catalog.hashed).toBe(hashed)

    const down = await started({ a: big, 'dir/c': 'C' })
    await down.fixture.stop()
    change((name) => down.fixture.path(name))
    await down.fixture.start()
    await down.fixture.catalog.refresh()
    expect(down.fixture.shared()).toEqual(idsOf(expected))
    if (!linked) expect(down.fixture.catalog.hashed).toBe(0)
  })

  test('in two steps with a scan between them hashes nothing', async () => {
    const { fixture, catalog } = await started({ a: big })
    renameSync(fixture.path('a'), join(fixture.base, 'outside'))
    await catalog.refresh()
    expect(catalog.size).toBe(0)
    renameSync(join(fixture.base, 'outside'), fixture.path('b'))
    await catalog.refresh()
    expect(fixture.shared()).toEqual(idsOf({ b: big }))
    expect(catalog.hashed).toBe(1)
  })

  test('is one batch', async () => {
    const { fixture, catalog } = await started({ a: big })
    const events: CatalogEvent[] = []
    catalog.onChange((event) => events.push(event))
    renameSync(fixture.path('a'), fixture.path('b'))
    await catalog.refresh()
    expect(events).toMatchObject([{ added: [{ name: 'b' }], removed: ['a'] }])
  })
})

describe('a file that changes', () => {
  test('while it is served is never served under its old id', async () => {
    const { fixture, catalog } = await started({ a: 'old content' })
    const reader = catalog.open(contentIdOf(Buffer.from('old content')))
    onTestFinished(() => reader.close())
    const into = Buffer.alloc(3)
    await reader.read(into, 0)
    expect(into.toString()).toBe('old')
    writeFileSync(fixture.path('a'), 'new content')
    await expect(reader.read(into, 0)).rejects.toMatchObject({ code: 'conflict' })
    expect(catalog.get(fileName('a'))).toBeUndefined()
    await expect.poll(() => fixture.shared(), soon).toEqual(idsOf({ a: 'new content' }))
    await expect(reader.read(into, 0)).rejects.toMatchObject({ code: 'conflict' })
  })

  test('before it is opened is not opened under its old id, but under another name that has it', async () => {
    const { fixture, catalog } = await started({ a: 'same', b: 'same' })
    writeFileSync(fixture.path('a'), 'else')
    expect(await serve(catalog, 'same')).toBe('same')
    writeFileSync(fixture.path('b'), 'else')
    expect(() => catalog.open(contentIdOf(Buffer.from('same')))).toThrow(expect.objectContaining({ code: 'conflict' }))
    await expect.poll(() => fixture.shared(), soon).toEqual(idsOf({ a: 'else', b: 'else' }))
  })

  test('is withdrawn as soon as that is noticed, before it is hashed again', async () => {
    const { fixture, catalog } = await started({ a: '1' }, {}, { settleMs: 60 })
    const events: CatalogEvent[] = []
    catalog.onChange((event) => events.push(event))
    fixture.write('a', '22')
    await catalog.refresh()
    expect(events).toMatchObject([
      { removed: ['a'], added: [] },
      { removed: [], added: [{ name: 'a', size: 2 }] },
    ])
  })

  test('under a forged modification time is found out', async () => {
    const { fixture, catalog } = await started({ a: 'aaaa' })
    const { atime, mtime } = statSync(fixture.path('a'))
    utimesSync(fixture.path('a'), atime, mtime)
    await catalog.refresh()
    expect(fixture.shared()).toEqual(idsOf({ a: 'aaaa' }))
    const { mtimeNs } = catalog.get(fileName('a'))!
    writeFileSync(fixture.path('a'), 'bbbb')
    execFileSync('touch', [
      '-d',
      `@${mtimeNs / 1_000_000_000n}.${String(mtimeNs % 1_000_000_000n).padStart(9, '0')}`,
      fixture.path('a'),
    ])
    expect(statSync(fixture.path('a'), { bigint: true }).mtimeNs).toBe(mtimeNs)
    await catalog.refresh()
    expect(fixture.shared()).toEqual(idsOf({ a: 'bbbb' }))
  })

  test('only in its permissions stays shared throughout', async () => {
    const { fixture, catalog } = await started({ a: 'A' })
    const events: CatalogEvent[] = []
    catalog.onChange((event) => events.push(event))
    chmodSync(fixture.path('a'), 0o600)
    await catalog.refresh()
    expect(events).toEqual([])
    expect(await serve(catalog, 'A')).toBe('A')
  })

  test('by deletion is served on to who has it open, and to nobody else', async () => {
    const { fixture, catalog } = await started({ a: 'A' })
    const id = contentIdOf(Buffer.from('A'))
    const reader = catalog.open(id)
    unlinkSync(fixture.path('a'))
    const into = Buffer.alloc(1)
    await reader.read(into, 0)
    expect(into.toString()).toBe('A')
    reader.close()
    expect(() => catalog.open(id)).toThrow(expect.objectContaining({ code: 'not_found' }))
    expect(catalog.size).toBe(0)
  })

  test('is no matter to a reader that is closed in the middle of a read', async () => {
    const { catalog } = await started({ a: 'x'.repeat(1_000_000) })
    const reader = catalog.open(contentIdOf(Buffer.from('x'.repeat(1_000_000))))
    const into = Buffer.alloc(1_000_000)
    const reading = reader.read(into, 0)
    reader.close()
    await reading
    expect(into.equals(Buffer.alloc(1_000_000, 'x'))).toBe(true)
    await expect(reader.read(into, 0)).rejects.toMatchObject({ code: 'internal' })
    const other = catalog.open(contentIdOf(Buffer.from('x'.repeat(1_000_000))))
    await expect(other.read(into, 1)).rejects.toMatchObject({ code: 'invalid' })
    other.close()
    expect(catalog.size).toBe(1)
  })
})

describe('hostile things on disk', () => {
  test('are ignored: links, FIFOs, names that can not be shared', async () => {
    const fixture = new CatalogFixture()
    const outside = join(fixture.base, 'outside')
    mkdirSync(outside)
    writeFileSync(join(outside, 'secret'), 'secret')
    fixture.write('good', 'G')
    fixture.write('dir/good', 'G')
    symlinkSync(join(outside, 'secret'), fixture.path('link to file'))
    symlinkSync(outside, fixture.path('link to folder'))
    symlinkSync(outside, fixture.path('dir/link'))
    symlinkSync('good', fixture.path('link within'))
    symlinkSync('/dev/zero', fixture.path('endless'))
    symlinkSync('nowhere', fixture.path('dangling'))
    symlinkSync('.', fixture.path('circle'))
    execFileSync('mkfifo', [fixture.path('fifo')])
    if (isRoot) execFileSync('mknod', [fixture.path('device'), 'c', '1', '5'])
    for (const name of [
      'con',
      'a\\b',
      '..\\x',
      'tab\there',
      'new\nline',
      '\u202etxt.exe',
      'ends.',
      'ends ',
      '．．／x',
      'esc\u001b[2J',
    ])
      fixture.write(name, name)
    writeFileSync(Buffer.concat([Buffer.from(`${fixture.root}/`), Buffer.from([0x66, 0xff, 0xfe])]), 'not UTF-8')
    fixture.write(`${'n'.repeat(255)}`, 'long')
    fixture.write(`${'ñ'.repeat(127)}`, 'long too')
    fixture.write(`${Array.from({ length: 9 }, () => 'd'.repeat(120)).join('/')}/too long`, 'too long')
    const catalog = await fixture.start()
    await catalog.refresh()
    expect(fixture.shared()).toEqual(
      idsOf({ good: 'G', 'dir/good': 'G', ['n'.repeat(255)]: 'long', ['ñ'.repeat(127)]: 'long too' }),
    )
    const warnings = fixture.lines.filter((line) => line.includes('can not be shared')).length
    expect(warnings).toBeGreaterThanOrEqual(10)
    await catalog.refresh()
    expect(fixture.lines.filter((line) => line.includes('can not be shared'))).toHaveLength(warnings)
  })

  test('that take the place of a shared file after the scan are not followed', async () => {
    const { fixture, catalog } = await started({ a: 'A', 'dir/b': 'B', c: 'C' })
    const outside = join(fixture.base, 'outside')
    mkdirSync(outside)
    for (const name of ['a', 'b', 'c']) writeFileSync(join(outside, name), name.toUpperCase())
    unlinkSync(fixture.path('a'))
    symlinkSync(join(outside, 'a'), fixture.path('a'))
    expect(() => catalog.open(contentIdOf(Buffer.from('A')))).toThrow(expect.objectContaining({ code: 'not_found' }))
    rmSync(fixture.path('dir'), { recursive: true })
    symlinkSync(outside, fixture.path('dir'))
    expect(() => catalog.open(contentIdOf(Buffer.from('B')))).toThrow(expect.objectContaining({ code: 'not_found' }))
    unlinkSync(fixture.path('c'))
    execFileSync('mkfifo', [fixture.path('c')])
    expect(() => catalog.open(contentIdOf(Buffer.from('C')))).toThrow(expect.objectContaining({ code: 'not_found' }))
    await catalog.refresh()
    expect(fixture.shared()).toEqual({})
  })

  test('such as a name in two Unicode forms give one file, the composed one', async () => {
    const { fixture, catalog } = await started({
      'e\u0301 only': 'decomposed',
      'o\u0301': 'D',
      ó: 'C',
      'u\u0301/x': 'X',
    })
    expect(fixture.shared()).toEqual(idsOf({ 'é only': 'decomposed', ó: 'C', 'ú/x': 'X' }))
    expect(catalog.get(fileName('é only'))?.path).toBe('e\u0301 only')
    expect(await serve(catalog, 'decomposed')).toBe('decomposed')
    expect(await serve(catalog, 'X')).toBe('X')
    unlinkSync(fixture.path('ó'))
    await catalog.refresh()
    expect(fixture.shared()).toEqual(idsOf({ 'é only': 'decomposed', ó: 'D', 'ú/x': 'X' }))
  })
})

describe('when the state folder fails', () => {
  test('a change that can not be stored is not announced, and is made later', async () => {
    const { fixture, catalog } = await started({ a: 'A' })
    const failing = vi.spyOn(fixture.store, 'apply').mockImplementation(() => {
      throw new Error('no room')
    })
    const { revision } = catalog
    unlinkSync(fixture.path('a'))
    fixture.write('b', 'B')
    await expect(catalog.refresh()).rejects.toThrow('no room')
    expect(catalog.revision).toBe(revision)
    failing.mockRestore()
    await catalog.refresh()
    expect(fixture.shared()).toEqual(idsOf({ b: 'B' }))
  })
})
