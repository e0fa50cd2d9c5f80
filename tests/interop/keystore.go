package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha3"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/libp2p/go-libp2p/core/crypto"
	"golang.org/x/crypto/scrypt"
)

// The parameters that DMS writes.
const (
	scryptN   = 262144
	scryptR   = 8
	scryptP   = 1
	derivedTo = 64
)

type keyFile struct {
	ID     string `json:"id"`
	Crypto struct {
		Cipher     string `json:"cipher"`
		Ciphertext string `json:"ciphertext"`
		Parameters struct {
			IV string `json:"iv"`
		} `json:"cipherparams"`
		KDF           string `json:"kdf"`
		KDFParameters struct {
			N     int    `json:"n"`
			R     int    `json:"r"`
			P     int    `json:"p"`
			DKLen int    `json:"dklen"`
			Salt  string `json:"salt"`
		} `json:"kdfparams"`
		MAC string `json:"mac"`
	} `json:"crypto"`
	Version int `json:"version"`
}

// seal writes a key file of version 3 around the libp2p form of the key.
func seal(key Key, id, passphrase string, salt, iv []byte) ([]byte, error) {
	libp2p, err := key.libp2p()
	if err != nil {
		return nil, err
	}
	text, err := crypto.MarshalPrivateKey(libp2p)
	if err != nil {
		return nil, err
	}
	derived, err := scrypt.Key([]byte(passphrase), salt, scryptN, scryptR, scryptP, derivedTo)
	if err != nil {
		return nil, err
	}
	if err := applyCipher(derived, iv, text); err != nil {
		return nil, err
	}
	file := keyFile{ID: id, Version: 3}
	file.Crypto.Cipher, file.Crypto.KDF = "aes-256-ctr", "scrypt"
	file.Crypto.Ciphertext, file.Crypto.Parameters.IV = hex.EncodeToString(text), hex.EncodeToString(iv)
	parameters := &file.Crypto.KDFParameters
	parameters.N, parameters.R, parameters.P, parameters.DKLen = scryptN, scryptR, scryptP, derivedTo
	parameters.Salt = hex.EncodeToString(salt)
	file.Crypto.MAC = hex.EncodeToString(macOf(derived, text))
	return json.MarshalIndent(file, "", "  ")
}

// open reads a key file, and gives the name in it and the key.
func open(text []byte, passphrase string) (string, Key, error) {
	var file keyFile
	if err := json.Unmarshal(text, &file); err != nil {
		return "", Key{}, err
	}
	c, parameters := file.Crypto, file.Crypto.KDFParameters
	if file.Version != 3 || c.Cipher != "aes-256-ctr" || c.KDF != "scrypt" || parameters.DKLen != derivedTo {
		return "", Key{}, errors.New("not a key file of version 3 with aes-256-ctr and scrypt")
	}
	var raw [4][]byte
	for i, one := range []string{c.Ciphertext, c.Parameters.IV, parameters.Salt, c.MAC} {
		var err error
		if raw[i], err = hex.DecodeString(one); err != nil {
			return "", Key{}, err
		}
	}
	ciphertext, iv, salt, mac := raw[0], raw[1], raw[2], raw[3]
	derived, err := scrypt.Key([]byte(passphrase), salt, parameters.N, parameters.R, parameters.P, derivedTo)
	if err != nil {
		return "", Key{}, err
	}
	if subtle.ConstantTimeCompare(mac, macOf(derived, ciphertext)) != 1 {
		return "", Key{}, errors.New("the passphrase does not open the key file")
	}
	if err := applyCipher(derived, iv, ciphertext); err != nil {
		return "", Key{}, err
	}
	libp2p, err := crypto.UnmarshalPrivateKey(ciphertext)
	if err != nil {
		return "", Key{}, err
	}
	private, err := libp2p.Raw()
	if err != nil || len(private) != ed25519.PrivateKeySize {
		return "", Key{}, errors.New("the key file holds no Ed25519 key")
	}
	return file.ID, Key{ed25519.PrivateKey(private)}, nil
}

func macOf(derived, ciphertext []byte) []byte {
	sum := sha3.Sum256(append(append([]byte{}, derived[32:]...), ciphertext...))
	return sum[:]
}

func applyCipher(derived, iv, text []byte) error {
	block, err := aes.NewCipher(derived[:32])
	if err != nil {
		return err
	}
	if len(iv) != block.BlockSize() {
		return fmt.Errorf("an iv of %d bytes", len(iv))
	}
	cipher.NewCTR(block, iv).XORKeyStream(text, text)
	return nil
}

// keystore seals a seed into a key file on standard output, or opens one and prints what is in it.
func keystore(args []string) error {
	if len(args) == 0 {
		return errors.New("say keystore seal or keystore open")
	}
	flags := flag.NewFlagSet("keystore", flag.ExitOnError)
	seed := flags.String("seed", "", "seed of the key to seal, 64 hex digits")
	id := flags.String("id", "", "name of the key to seal")
	file := flags.String("file", "", "key file to open")
	_ = flags.Parse(args[1:])
	passphrase := os.Getenv("DMS_PASSPHRASE")
	switch args[0] {
	case "seal":
		key, err := KeyFromSeed(*seed)
		if err != nil {
			return err
		}
		random := make([]byte, 80)
		if _, err := rand.Read(random); err != nil {
			return err
		}
		sealed, err := seal(key, *id, passphrase, random[:64], random[64:])
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(sealed)
		return err
	case "open":
		text, err := os.ReadFile(*file)
		if err != nil {
			return err
		}
		id, key, err := open(text, passphrase)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(map[string]string{
			"id": id, "seed": hex.EncodeToString(key.private.Seed()), "did": key.DID().URI})
	}
	return fmt.Errorf("no command keystore %q: say seal or open", args[0])
}
