// Command golden reads each message of a folder and writes it again, so that its bytes and its JSON can be compared with those of
// other languages: golden IN_DIR OUT_DIR, where the files are called FULL.MESSAGE.Name--CASE.bin or .json.
package main

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "example.com/ordertape-client/gen/ordertape/v1" // registers the messages
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: golden IN_DIR OUT_DIR")
	}
	if err := rewriteAll(os.Args[1], os.Args[2]); err != nil {
		log.Fatalf("golden: %v", err)
	}
}

func rewriteAll(in, out string) error {
	files, err := os.ReadDir(in)
	if err != nil {
		return err
	}
	for _, file := range files {
		extension := filepath.Ext(file.Name())
		if extension != ".bin" && extension != ".json" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(in, file.Name()))
		if err != nil {
			return err
		}
		if err := rewrite(data, strings.TrimSuffix(file.Name(), extension), extension, out); err != nil {
			return fmt.Errorf("%s: %w", file.Name(), err)
		}
	}
	return nil
}

func rewrite(data []byte, stem, extension, out string) error {
	name, _, _ := strings.Cut(stem, "--")
	messageType, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
	if err != nil {
		return err
	}
	message := messageType.New().Interface()
	if extension == ".json" {
		if err := protojson.Unmarshal(data, message); err != nil {
			return err
		}
		return writeBinary(message, filepath.Join(out, stem+".fromjson.bin"))
	}
	if err := proto.Unmarshal(data, message); err != nil {
		return err
	}
	json, err := protojson.Marshal(message)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, stem+".json"), json, 0o644); err != nil {
		return err
	}
	return writeBinary(message, filepath.Join(out, stem+".bin"))
}

func writeBinary(message proto.Message, path string) error {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
