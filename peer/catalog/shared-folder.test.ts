import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { temporaryFolder } from './catalog.fixture.ts'
import { SharedFolder } from './shared-folder.ts'

function folders() {
  const base = temporaryFolder()
  const root = join(base, 'shared')
  const outside = join(base, 'outside')
  mkdirSync(join(root, 'sub'), { recursive: true })
  mkdirSync(outside)
  writeFileSync(join(root, 'sub/file'), 'inside')
  writeFileSync(join(outside, 'file'), 'secret')
  return { base, root, outside }
}

function read(folder: SharedFolder, path: string): string {
  const { fd } = folder.openFile(path)
  try {
    return readFileSync(fd, 'utf8')
  } finally {
    closeSync(fd)
  }
}

describe('a shared folder', () => {
  test.each([
    ['is missing', 'missing', 'no such folder'],
    ['is a file', 'shared/sub/file', 'not a folder'],
  ])('that %s is refused in one line that names it', (_, path, words) => {
    const { base } = folders()
    expect(() => SharedFolder.open(join(base, path))).toThrow(
      expect.objectContaining({
        code: 'invalid',
        message: expect.stringMatching(new RegExp(`${join(base, path)}.*${words}`)),
      }),
    )
  })

  test('may itself be reached by a symbolic link', () => {
    const { base, root } = folders()
    symlinkSync(root, join(base, 'link'))
    expect(read(SharedFolder.open(join(base, 'link')), 'sub/file')).toBe('inside')
  })

  test('knows which files would be shared', () => {
    const { base, root } = folders()
    const folder = SharedFolder.open(root)
    mkdirSync(join(root, '.state'))
    expect(folder.wouldShare(join(root, 'sub/catalog.db'))).toBe(true)
    expect(folder.wouldShare(join(root, 'catalog.db'))).toBe(true)
    expect(folder.wouldShare(join(root, '.state/catalog.db'))).toBe(false)
    expect(folder.wouldShare(join(base, 'outside/catalog.db'))).toBe(false)
    expect(folder.wouldShare(join(base, 'catalog.db'))).toBe(false)
  })
})

describe.each([
  ['by descriptor', true],
  ['by real path', false],
])('walking %s', (_, byDescriptor) => {
  function open() {
    const all = folders()
    return { ...all, folder: SharedFolder.open(all.root, byDescriptor) }
  }
  const notFound = expect.objectContaining({ code: 'not_found' })

  test('opens a file in a folder', () => {
    const { folder } = open()
    expect(read(folder, 'sub/file')).toBe('inside')
    expect(folder.stat('sub/file')?.size).toBe(6n)
    expect(folder.stat('sub/none')).toBeUndefined()
    expect(folder.stat('none/none')).toBeUndefined()
  })

  test('follows no link, to a file or a folder, at any depth', () => {
    const { folder, root, outside } = open()
    symlinkSync(join(outside, 'file'), join(root, 'link'))
    symlinkSync(outside, join(root, 'folder'))
    symlinkSync('sub', join(root, 'within'))
    symlinkSync('../sub', join(root, 'sub/loop'))
    for (const path of ['link', 'folder/file', 'within/file', 'sub/loop/file', 'sub/loop/loop/file'])
      expect(() => folder.openFile(path), path).toThrow(notFound)
  })

  test('is not redirected by a link that replaces a folder in the middle of the walk', () => {
    const { folder, root, outside } = open()
    const sub = folder.directory('sub')
    renameSync(join(root, 'sub'), join(root, 'moved'))
    symlinkSync(outside, join(root, 'sub'))
    if (byDescriptor) {
      const { fd } = sub.openFile('file')
      expect(readFileSync(fd, 'utf8')).toBe('inside')
      closeSync(fd)
    } else expect(() => sub.openFile('file')).toThrow(notFound)
    sub.close()
    expect(() => folder.openFile('sub/file')).toThrow(notFound)
  })

  test('takes nothing but regular files, and does not wait for a FIFO', async () => {
    const { folder, root } = open()
    execFileSync('mkfifo', [join(root, 'fifo')])
    const server = createServer().listen(join(root, 'socket'))
    onTestFinished(() => void server.close())
    await new Promise((resolve) => server.once('listening', resolve))
    for (const path of ['fifo', 'socket', 'sub', 'sub/file/x'])
      expect(() => folder.openFile(path), path).toThrow(notFound)
  })

  test.runIf(process.getuid?.() === 0)('takes no device', () => {
    const { folder, root } = open()
    execFileSync('mknod', [join(root, 'zero'), 'c', '1', '5'])
    expect(() => folder.openFile('zero')).toThrow(notFound)
  })

  test('makes folders, but not through links or files', () => {
    const { folder, root, outside } = open()
    symlinkSync(outside, join(root, 'folder'))
    folder.makeDirectory('a/b/c').close()
    folder.makeDirectory('a/b/c').close()
    expect(folder.stat('a/b/c')?.isDirectory()).toBe(true)
    expect(() => folder.makeDirectory('folder/x')).toThrow()
    expect(() => folder.makeDirectory('sub/file/x')).toThrow()
    expect(() => readFileSync(join(outside, 'x'))).toThrow(/ENOENT/)
  })

  test('leaves no descriptor open, whatever fails', () => {
    const { folder, root } = open()
    rmSync(join(root, 'sub/file'))
    const probe = () => {
      const root = folder.root()
      root.close()
      return root.fd
    }
    const before = probe()
    for (let i = 0; i < 10; i++) {
      expect(() => folder.openFile('sub/file')).toThrow(notFound)
      expect(() => folder.directory('sub/none')).toThrow()
      expect(() => folder.makeDirectory('sub/\0')).toThrow()
    }
    expect(probe()).toBe(before)
  })
})
