import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  fstatSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { type Manifest, manifestOf } from '../../common/merkle.ts'
import type { PartialFile } from '../transfer/contents.ts'
import { CatalogFixture, fileName, idsOf, sharedHasher, temporaryFolder, useSharedHasher } from './catalog.fixture.ts'
import { FolderLanding } from './folder-landing.ts'
import { OpenDirectory } from './open-directory.ts'
import { SharedFolder } from './shared-folder.ts'

useSharedHasher()
const data = Buffer.from('downloaded content')
const manifest = manifestOf(data)
const big: Manifest = manifestOf(Buffer.alloc(2_000_000, 'b'))

function landingIn(root: string, reserveBytes = 0): FolderLanding {
  return new FolderLanding({ folder: SharedFolder.open(root), hasher: sharedHasher() }, { reserveBytes })
}

async function download(landing: { openPartial(manifest: Manifest): Promise<PartialFile> }): Promise<PartialFile> {
  const partial = await landing.openPartial(manifest)
  onTestFinished(() => partial.close())
  writeSync(partial.fd, data, 0, data.length, 0)
  return partial
}

/** A small disk of its own; undefined where this user may not mount one. */
function smallDisk(options: string): string | undefined {
  const path = temporaryFolder()
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path]).status !== 0) return undefined
  onTestFinished(() => void execFileSync('umount', ['-l', path]))
  return path
}

describe('a partial file', () => {
  test('that somebody removed meanwhile keeps nothing back: the next attempt begins anew', async () => {
    const root = temporaryFolder()
    const landing = landingIn(root)
    const partial = await landing.openPartial(manifest)
    for (const name of readdirSync(root)) if (name.endsWith('.part')) unlinkSync(join(root, name))
    await partial.discard()
    const again = await download(landing)
    await again.publish(fileName('a'))
    expect(readFileSync(join(root, 'a')).equals(data)).toBe(true)
  })

  test('is hidden, of full size, and takes no room for what was not written', async () => {
    const root = temporaryFolder()
    const partial = await landingIn(root).openPartial(big)
    expect(partial.resumed).toBe(false)
    const stats = fstatSync(partial.fd)
    expect(stats.size).toBe(big.size)
    expect(stats.blocks).toBe(0)
    expect(readdirSync(root).every((name) => name.startsWith('.p2p-'))).toBe(true)
    await partial.close()
  })

  test('keeps its bytes for a later attempt', async () => {
    const root = temporaryFolder()
    const first = await landingIn(root).openPartial(big)
    writeSync(first.fd, Buffer.alloc(1000, 'b'), 0, 1000, 500_000)
    await first.close()
    const second = await landingIn(root).openPartial(big)
    expect(second.resumed).toBe(true)
    const into = readFileSync(join(root, `.p2p-${big.id}.part`))
    expect(into.subarray(500_000, 501_000).equals(Buffer.alloc(1000, 'b'))).toBe(true)
    await second.discard()
    expect(readdirSync(root)).toEqual([])
  })

  test('that is longer than the content is cut', async () => {
    const root = temporaryFolder()
    writeFileSync(join(root, `.p2p-${manifest.id}.part`), Buffer.alloc(5000, 'x'))
    const partial = await landingIn(root).openPartial(manifest)
    expect(fstatSync(partial.fd).size).toBe(data.length)
    await partial.close()
  })

  test('has one opener at a time, in this process and others', async () => {
    const root = temporaryFolder()
    const [one, other] = [landingIn(root), landingIn(root)]
    const partial = await one.openPartial(manifest)
    await expect(one.openPartial(manifest)).rejects.toMatchObject({ code: 'conflict' })
    await expect(other.openPartial(manifest)).rejects.toMatchObject({ code: 'conflict' })
    await partial.close()
    await partial.close()
    const again = await other.openPartial(manifest)
    await again.close()
    const parent = process.ppid
    const start = readFileSync(`/proc/${parent}/stat`, 'utf8').split(') ')[1]!.split(' ')[19]
    writeFileSync(join(root, `.p2p-${manifest.id}.lock`), `${parent} ${start}`)
    await expect(one.openPartial(manifest)).rejects.toMatchObject({
      message: expect.stringContaining(`process ${parent}`),
    })
  })

  test.each([
    ['a process that is gone', () => `${spawnSync('true').pid} 12345`],
    ['a process whose id another one has now', () => `${process.pid} 1`],
    ['nobody', () => 'nonsense'],
  ])('is taken over from %s', async (_, holder) => {
    const root = temporaryFolder()
    writeFileSync(join(root, `.p2p-${manifest.id}.lock`), holder())
    const partial = await landingIn(root).openPartial(manifest)
    await partial.close()
    expect(readdirSync(root)).toEqual([`.p2p-${manifest.id}.part`])
  })

  test('is never a link to something else', async () => {
    const root = temporaryFolder()
    const outside = join(temporaryFolder(), 'victim')
    writeFileSync(outside, 'victim')
    symlinkSync(outside, join(root, `.p2p-${manifest.id}.part`))
    await expect(landingIn(root).openPartial(manifest)).rejects.toMatchObject({ name: 'NetworkError' })
    expect(readFileSync(outside, 'utf8')).toBe('victim')
    unlinkSync(join(root, `.p2p-${manifest.id}.part`))
    linkSync(outside, join(root, `.p2p-${manifest.id}.part`))
    const partial = await download(landingIn(root))
    await partial.publish(fileName('ok'))
    expect(readFileSync(outside, 'utf8')).toBe('victim')
    expect(readFileSync(join(root, 'ok')).equals(data)).toBe(true)
  })
})

describe('publishing', () => {
  test('makes the file visible under its name, in folders that are made for it', async () => {
    const root = temporaryFolder()
    const landing = landingIn(root)
    expect(landing.existing(fileName('a/b/c.txt'))).toBeUndefined()
    const partial = await download(landing)
    await partial.publish(fileName('a/b/c.txt'))
    await partial.close()
    await partial.discard()
    expect(readFileSync(join(root, 'a/b/c.txt')).equals(data)).toBe(true)
    expect(readdirSync(root)).toEqual(['a'])
    expect(landing.existing(fileName('a/b/c.txt'))).toBe('unknown')
  })

  test('never replaces another content, and keeps the partial file', async () => {
    const root = temporaryFolder()
    writeFileSync(join(root, 'taken'), 'other content')
    const partial = await download(landingIn(root))
    await expect(partial.publish(fileName('taken'))).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('choose another name'),
    })
    expect(readFileSync(join(root, 'taken'), 'utf8')).toBe('other content')
    await partial.publish(fileName('free'))
    expect(readFileSync(join(root, 'free')).equals(data)).toBe(true)
    expect(readdirSync(root).sort()).toEqual(['free', 'taken'])
  })

  test('is done where the same content stands there already', async () => {
    const root = temporaryFolder()
    writeFileSync(join(root, 'same'), data)
    const { ino } = statSync(join(root, 'same'))
    const partial = await download(landingIn(root))
    await partial.publish(fileName('same'))
    expect(readdirSync(root)).toEqual(['same'])
    expect(statSync(join(root, 'same')).ino).toBe(ino)
  })

  test('does not go through links or files, nor onto anything that is no file', async () => {
    const root = temporaryFolder()
    const outside = temporaryFolder()
    symlinkSync(outside, join(root, 'folder'))
    symlinkSync(join(outside, 'new'), join(root, 'dangling'))
    writeFileSync(join(root, 'file'), 'f')
    mkdirSync(join(root, 'directory'))
    execFileSync('mkfifo', [join(root, 'fifo')])
    const landing = landingIn(root)
    expect(landing.existing(fileName('folder/x'))).toBe('unknown')
    expect(landing.existing(fileName('file/x'))).toBe('unknown')
    expect(landing.existing(fileName('dangling'))).toBe('unknown')
    const partial = await download(landing)
    for (const name of ['folder/x', 'file/x', 'dangling', 'directory', 'fifo'])
      await expect(partial.publish(fileName(name)), name).rejects.toMatchObject({ code: 'conflict' })
    expect(readdirSync(outside)).toEqual([])
    expect(existsSync(join(root, `.p2p-${manifest.id}.part`))).toBe(true)
  })

  test('works without links too, and replaces nothing there either', async () => {
    vi.spyOn(OpenDirectory.prototype, 'link').mockImplementation(() => {
      throw Object.assign(new Error('EPERM: operation not permitted, link'), { code: 'EPERM' })
    })
    onTestFinished(() => void vi.restoreAllMocks())
    const root = temporaryFolder()
    writeFileSync(join(root, 'taken'), 'other content')
    const partial = await download(landingIn(root))
    await expect(partial.publish(fileName('taken'))).rejects.toMatchObject({ code: 'conflict' })
    await partial.publish(fileName('a/b'))
    expect(readFileSync(join(root, 'a/b')).equals(data)).toBe(true)
    expect(readFileSync(join(root, 'taken'), 'utf8')).toBe('other content')
    expect(readdirSync(root).sort()).toEqual(['a', 'taken'])
  })

  test('after a crash between its two steps does not write into the finished file', async () => {
    const root = temporaryFolder()
    const partial = await download(landingIn(root))
    linkSync(join(root, `.p2p-${manifest.id}.part`), join(root, 'finished'))
    await partial.close()
    const again = await landingIn(root).openPartial(manifest)
    expect(again.resumed).toBe(false)
    expect(fstatSync(again.fd).ino).not.toBe(statSync(join(root, 'finished')).ino)
    await again.discard()
    expect(readdirSync(root)).toEqual(['finished'])
  })

  test('notices a partial file that was exchanged under its hands', async () => {
    const root = temporaryFolder()
    const partial = await download(landingIn(root))
    renameSync(join(root, `.p2p-${manifest.id}.part`), join(root, '.away'))
    writeFileSync(join(root, `.p2p-${manifest.id}.part`), 'something else')
    await expect(partial.publish(fileName('x'))).rejects.toMatchObject({ code: 'conflict' })
    expect(existsSync(join(root, 'x'))).toBe(false)
  })
})

/** Whether this user may mount a disk of a few MiB. */
const disk = smallDiskAllowed()
function smallDiskAllowed(): boolean {
  return process.getuid?.() === 0 && spawnSync('unshare', ['-m', 'true']).status === 0
}

describe.runIf(disk)('on a disk of 4 MiB', () => {
  test('a content that does not fit is refused before a byte is written, and leaves nothing behind', async () => {
    const root = smallDisk('size=4m')!
    const huge = { ...big, size: 5_000_000 }
    await expect(landingIn(root).openPartial(huge)).rejects.toMatchObject({
      code: 'unavailable',
      details: { reason: 'disk_full' },
    })
    await expect(landingIn(root, 3_000_000).openPartial(big)).rejects.toMatchObject({
      details: { reason: 'disk_full' },
    })
    expect(readdirSync(root)).toEqual([])
  })

  test('contents that fit one by one are not promised room together', async () => {
    const root = smallDisk('size=4m')!
    const landing = landingIn(root)
    const first = await landing.openPartial({ ...big, size: 3_000_000 })
    await expect(landing.openPartial(manifestOf(Buffer.alloc(1_900_000)))).rejects.toMatchObject({
      code: 'unavailable',
    })
    await first.discard()
    const second = await landing.openPartial(manifestOf(Buffer.alloc(1_900_000)))
    await second.discard()
  })

  test('a piece that finds the disk full fails with disk_full, and nothing that is there is lost', async () => {
    const root = smallDisk('size=4m')!
    const partial = await landingIn(root).openPartial(big)
    writeFileSync(join(root, '.filler'), Buffer.alloc(4 * 1024 * 1024 - 65_536))
    await expect(
      sharedHasher().commitPiece(partial.fd, big, 0, [new Uint8Array(262_144).fill(98)]),
    ).rejects.toMatchObject({ code: 'unavailable', details: { reason: 'disk_full' } })
    unlinkSync(join(root, '.filler'))
    expect(await sharedHasher().commitPiece(partial.fd, big, 0, [new Uint8Array(262_144).fill(98)])).toBe(true)
    expect((await sharedHasher().verifyFile(partial.fd, big))[0]).toBe(true)
    await partial.close()
  })
})

test('beyond the reserve of free space, a content is refused and leaves nothing behind', async () => {
  const root = temporaryFolder()
  await expect(landingIn(root, Number.MAX_SAFE_INTEGER).openPartial(manifest)).rejects.toMatchObject({
    code: 'unavailable',
    details: { reason: 'disk_full' },
  })
  expect(readdirSync(root)).toEqual([])
})

test('from a read-only folder files are shared, and saving is refused in one clear line', async () => {
  const root = smallDisk('size=1m') ?? temporaryFolder()
  writeFileSync(join(root, 'a'), 'A')
  // Permissions do not hold the superuser back, a read-only mount does.
  if (disk) execFileSync('mount', ['-o', 'remount,ro', root])
  else chmodSync(root, 0o555)
  onTestFinished(() => {
    if (!disk) chmodSync(root, 0o755)
  })
  const fixture = new CatalogFixture({}, {}, root)
  const catalog = await fixture.start()
  await catalog.refresh()
  expect(fixture.shared()).toEqual(idsOf({ a: 'A' }))
  await expect(catalog.openPartial(manifest)).rejects.toMatchObject({
    code: 'forbidden',
    message: `nothing can be saved in ${root}: it is read-only`,
  })
})

describe('a download into the shared folder', () => {
  test('is shared at once under the known id, without being hashed', async () => {
    const fixture = new CatalogFixture()
    const catalog = await fixture.start()
    const partial = await download(catalog)
    expect(catalog.size).toBe(0)
    await partial.publish(fileName('new/folder/file'))
    expect(fixture.shared()).toEqual(idsOf({ 'new/folder/file': data }))
    expect(catalog.existing(fileName('new/folder/file'))).toBe(manifest.id)
    await catalog.refresh()
    expect(fixture.shared()).toEqual(idsOf({ 'new/folder/file': data }))
    expect(catalog.hashed).toBe(0)
    expect((await fixture.restart()).hashed).toBe(0)
    expect(fixture.shared()).toEqual(idsOf({ 'new/folder/file': data }))
    unlinkSync(fixture.path('new/folder/file'))
    await expect.poll(() => fixture.shared(), { timeout: 10_000 }).toEqual({})
  })

  test('that vanishes before any scan saw it is withdrawn', async () => {
    const fixture = new CatalogFixture()
    const catalog = await fixture.start()
    await (await download(catalog)).publish(fileName('x/y'))
    execFileSync('rm', ['-r', fixture.path('x')])
    await catalog.refresh()
    expect(catalog.size).toBe(0)
  })

  test('meets the names on disk, in whatever Unicode form they are', async () => {
    const fixture = new CatalogFixture()
    fixture.write('e\u0301/a', 'A')
    const catalog = await fixture.start()
    await catalog.refresh()
    expect(catalog.existing(fileName('é/a'))).toBe(idsOf({ a: 'A' }).a)
    await (await download(catalog)).publish(fileName('é/b'))
    await catalog.refresh()
    expect(readdirSync(fixture.root).filter((name) => !name.startsWith('.'))).toEqual(['e\u0301'])
    expect(fixture.shared()).toEqual(idsOf({ 'é/a': 'A', 'é/b': data }))
  })
})
