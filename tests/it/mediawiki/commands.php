<?php
// What the driver can be asked for: the operations of a BagOStuff, its encoding, values to store, and plain curl.

declare( strict_types=1 );

namespace Decant;

use BagOStuff;
use InvalidArgumentException;
use ReflectionMethod;
use RESTBagOStuff;

class Commands {
	private Journal $journal;
	/** @var array<string,BagOStuff> */
	private array $stores = [];

	public function __construct( Journal $journal ) {
		$this->journal = $journal;
	}

	public function run( array $command ): array {
		switch ( $command['op'] ) {
			case 'make':
				return $this->make( $command );
			case 'values':
				return [ 'items' => $this->named( match ( $command['kind'] ) {
					'plain' => plainValues(),
					'hard' => hardValues(),
					'deep' => deepValues(),
				} ) ];
			case 'random':
				return $this->random( $command );
			case 'curl':
				return $this->curl( $command );
			default:
				return $this->onStore( $command );
		}
	}

	private function make( array $command ): array {
		$params = $command['params'] + [ 'logger' => $this->journal, 'stats' => new NoStats ];
		if ( isset( $command['hmac_key'] ) ) {
			$params['hmac_key'] = base64_decode( $command['hmac_key'] );
		}
		$class = '\\' . $command['class'];
		$this->stores[ $command['store'] ] = new $class( $params );
		return [];
	}

	private function onStore( array $command ): array {
		$store = $this->stores[ $command['store'] ] ?? null;
		if ( $store === null ) {
			throw new InvalidArgumentException( "no store {$command['store']}: make it first" );
		}
		$store->clearLastError();
		$answer = $this->operate( $store, $command );
		$answer['error'] = $store->getLastError();
		return $answer;
	}

	private function operate( BagOStuff $store, array $command ): array {
		$key = isset( $command['key'] ) ? base64_decode( $command['key'] ) : '';
		$keys = array_map( 'base64_decode', $command['keys'] ?? [] );
		$components = array_map( 'base64_decode', $command['components'] ?? [] );
		$ttl = $command['ttl'] ?? 0;
		$by = $command['by'] ?? 1;
		switch ( $command['op'] ) {
			case 'get':
				return $this->value( $store->get( $key, $command['flags'] ?? 0 ) );
			case 'set':
				return $this->value( $store->set( $key, $this->given( $command ), $ttl ) );
			case 'add':
				return $this->value( $store->add( $key, $this->given( $command ), $ttl ) );
			case 'delete':
				return $this->value( $store->delete( $key ) );
			case 'incr':
				return $this->value( $store->incr( $key, $by ) );
			case 'decr':
				return $this->value( $store->decr( $key, $by ) );
			case 'incrWithInit':
				return $this->value( $store->incrWithInit( $key, $ttl, $by, $command['init'] ?? null ) );
			case 'merge':
				return $this->merge( $store, $key, $command );
			case 'getMulti':
				return [ 'pairs' => $this->pairs( $store->getMulti( $keys ) ) ];
			case 'setMulti':
				$values = [];
				foreach ( $command['pairs'] as [ $name, $value ] ) {
					$values[ base64_decode( $name ) ] = unserialize( base64_decode( $value ) );
				}
				return $this->value( $store->setMulti( $values, $ttl ) );
			case 'deleteMulti':
				return $this->value( $store->deleteMulti( $keys ) );
			case 'makeKey':
				return [ 'key' => base64_encode( $store->makeKey( ...$components ) ) ];
			case 'makeGlobalKey':
				return [ 'key' => base64_encode( $store->makeGlobalKey( ...$components ) ) ];
			case 'encode':
				return [ 'bytes' => base64_encode( $this->encode( $store, $this->given( $command ) ) ) ];
			case 'decode':
				return $this->value( $this->decode( $store, base64_decode( $command['bytes'] ) ) );
			default:
				throw new InvalidArgumentException( "no command {$command['op']}" );
		}
	}

	/**
	 * Appends "value" to the list at the key. With "interfere" another value is stored under the callback's feet at its
	 * first call, so that the compare-and-set must fail once. The answer's "seen" is what each call was given.
	 */
	private function merge( BagOStuff $store, string $key, array $command ): array {
		$seen = [];
		$append = function ( $bag, $key, $current ) use ( $store, $command, &$seen ) {
			$seen[] = base64_encode( serialize( $current ) );
			if ( isset( $command['interfere'] ) && count( $seen ) === 1 ) {
				$store->set( $key, unserialize( base64_decode( $command['interfere'] ) ) );
			}
			return array_merge( $current === false ? [] : (array)$current, [ $this->given( $command ) ] );
		};
		return $this->value( $store->merge( $key, $append ) ) + [ 'seen' => $seen ];
	}

	private function encode( BagOStuff $store, mixed $value ): string {
		$method = $store instanceof RESTBagOStuff ? 'encodeBody' : 'serialize';
		return (string)( new ReflectionMethod( $store, $method ) )->invoke( $store, $value );
	}

	private function decode( BagOStuff $store, string $bytes ): mixed {
		$method = $store instanceof RESTBagOStuff ? 'decodeBody' : 'unserialize';
		return ( new ReflectionMethod( $store, $method ) )->invoke( $store, $bytes );
	}

	private function random( array $command ): array {
		$dice = new Dice( $command['seed'], $command['hard'] );
		$items = [];
		for ( $i = 0; $i < $command['count']; $i++ ) {
			$items[] = [
				'components' => array_map( 'base64_encode', $dice->keyComponents() ),
				'value' => base64_encode( serialize( $dice->value() ) ),
			];
		}
		return [ 'items' => $items ];
	}

	/** One plain request, its answer untouched: for the bytes that MediaWiki's class would decode. */
	private function curl( array $command ): array {
		$headers = [];
		$handle = curl_init( $command['url'] );
		curl_setopt_array( $handle, [
			CURLOPT_CUSTOMREQUEST => $command['method'],
			CURLOPT_RETURNTRANSFER => true,
			CURLOPT_TIMEOUT => 10,
			CURLOPT_HTTPHEADER => $command['headers'] ?? [],
			CURLOPT_HEADERFUNCTION => static function ( $handle, string $line ) use ( &$headers ) {
				$parts = explode( ':', $line, 2 );
				if ( count( $parts ) === 2 ) {
					$headers[ strtolower( $parts[0] ) ] = trim( $parts[1] );
				}
				return strlen( $line );
			},
		] );
		if ( isset( $command['body'] ) ) {
			curl_setopt( $handle, CURLOPT_POSTFIELDS, base64_decode( $command['body'] ) );
		}
		$body = curl_exec( $handle );
		return [
			'status' => curl_getinfo( $handle, CURLINFO_RESPONSE_CODE ),
			'headers' => (object)$headers,
			'body' => base64_encode( (string)$body ),
			'problem' => curl_error( $handle ),
		];
	}

	private function given( array $command ): mixed {
		return unserialize( base64_decode( $command['value'] ) );
	}

	private function value( mixed $value ): array {
		return [ 'value' => base64_encode( serialize( $value ) ) ];
	}

	private function pairs( array $values ): array {
		$pairs = [];
		foreach ( $values as $key => $value ) {
			$pairs[] = [ base64_encode( (string)$key ), base64_encode( serialize( $value ) ) ];
		}
		return $pairs;
	}

	private function named( array $values ): array {
		$named = [];
		foreach ( $values as $name => $value ) {
			$named[] = [ 'name' => $name, 'value' => base64_encode( serialize( $value ) ) ];
		}
		return $named;
	}
}
