import { describe, expect, it } from 'vitest'
import { hostPort, isInternal, isLoopback, oneParty, parseAdvertised, parseRestUrl } from './address.ts'

describe('parseRestUrl', () => {
  it.each([
    ['http://192.168.1.20:8000', 'http://192.168.1.20:8000'],
    ['192.168.1.20:8000', 'http://192.168.1.20:8000'],
    ['http://Host.Example/', 'http://host.example:80'],
    ['https://host.example', 'https://host.example:443'],
    ['http://localhost.:8000', 'http://localhost:8000'],
    ['http://[FD00::1]:8000', 'http://[fd00::1]:8000'],
    ['http://0x7f.1:8000', 'http://127.0.0.1:8000'],
  ])('brings %s to one form', (text, url) => {
    expect(parseRestUrl(text).url).toBe(url)
    expect(parseRestUrl(url).url).toBe(url)
  })

  it('gives an IPv6 host without brackets', () => {
    expect(parseRestUrl('http://[fd00::1]:8000')).toMatchObject({ host: 'fd00::1', port: 8000 })
  })

  it.each([
    ['', 'not a URL'],
    ['http://', 'not a URL'],
    ['http://h:99999', 'not a URL'],
    ['http://h:0', 'bad port'],
    ['ftp://h', 'not an http URL'],
    ['http://u:p@h', 'more than a host and a port'],
    ['http://h/x', 'more than a host and a port'],
    ['http://h?x', 'more than a host and a port'],
    ['http://h#x', 'more than a host and a port'],
  ])('refuses "%s": %s', (text, why) => {
    expect(() => parseRestUrl(text)).toThrow(why)
  })
})

it.each([
  ['127.0.0.1', true],
  ['127.9.9.9', true],
  ['::1', true],
  ['::ffff:127.0.0.1', true],
  ['::ffff:7f00:1', true],
  ['localhost', true],
  ['peer.localhost', true],
  ['128.0.0.1', false],
  ['127.0.0.1.example', false],
  ['localhost.example', false],
])('isLoopback(%s) is %s', (host, expected) => {
  expect(isLoopback(host)).toBe(expected)
})

it.each([
  ['127.0.0.1', true],
  ['127.255.255.254', true],
  ['0.0.0.0', true],
  ['10.1.2.3', true],
  ['172.16.0.1', true],
  ['172.31.255.255', true],
  ['192.168.1.20', true],
  ['169.254.169.254', true],
  ['100.64.0.1', true],
  ['100.100.100.200', true],
  ['168.63.129.16', true],
  ['192.0.0.192', true],
  ['224.0.0.1', true],
  ['255.255.255.255', true],
  ['::', true],
  ['::1', true],
  ['::127.0.0.1', true],
  ['::ffff:10.0.0.1', true],
  ['::ffff:a00:1', true],
  ['0:0:0:0:0:ffff:a00:1', true],
  ['fe80::1', true],
  ['fe80::1%eth0', true],
  ['fc00::1', true],
  ['fd00:ec2::254', true],
  ['ff02::1', true],
  ['64:ff9b::7f00:1', true],
  ['64:ff9b:1::1', true],
  ['2002:7f00:1::', true],
  ['2001:0:7f00:1::', true],
  ['localhost', true],
  ['app.localhost.', true],
  ['metadata.google.internal', true],
  ['METADATA', true],
  ['8.8.8.8', false],
  ['::ffff:8.8.8.8', false],
  ['172.32.0.1', false],
  ['100.128.0.1', false],
  ['2001:4860:4860::8888', false],
  ['2606:4700::1111', false],
  ['hooks.example', false],
])('isInternal(%s) is %s', (host, expected) => {
  expect(isInternal(host)).toBe(expected)
})

describe('parseAdvertised', () => {
  it.each(['http://10.1.2.3:1', 'http://192.168.0.1:1', 'http://[fd00::1]:1', 'http://pc.lab:1', 'http://8.8.8.8:1'])(
    'takes %s from anywhere',
    (url) => {
      expect(parseAdvertised(url, '10.0.0.7').url).toBe(url)
    },
  )

  it('takes loopback from this machine, and where the source is not known', () => {
    for (const from of ['127.0.0.1', '::1', '::ffff:127.0.0.1', undefined])
      for (const url of ['http://127.0.0.1:1', 'http://[::1]:1', 'http://localhost:1'])
        expect(parseAdvertised(url, from).url).toBe(url)
  })

  it.each([
    'http://127.0.0.1:1',
    'http://[::1]:1',
    'http://[::ffff:127.0.0.1]:1',
    'http://localhost.:1',
    'http://2130706433:1',
  ])('refuses %s from another machine', (url) => {
    expect(() => parseAdvertised(url, '10.0.0.7')).toThrow('came from 10.0.0.7')
  })
})

it('hostPort puts IPv6 in brackets', () => {
  expect([hostPort('::1', 80), hostPort('h', 80)]).toEqual(['[::1]:80', 'h:80'])
})

describe('one party is', () => {
  it.each([
    ['192.168.1.20', '192.168.1.20'],
    ['::ffff:192.168.1.20', '192.168.1.20'],
    ['2001:db8:0:7::1', '2001:db8:0:7::/64'],
    ['2001:DB8::7:ffff:ffff:ffff:ffff', '2001:db8:0:7::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['lab-7', 'lab-7'],
  ])('of %s: %s', (host, party) => {
    expect(oneParty(host)).toBe(party)
  })
})
